import { Actor, type Seat } from './actor.js';
import type { Claim, Effect } from './lock-checks.js';
import type { Random } from './random.js';
import type { Want } from './subjects/ask.js';
import type { Granted } from './subjects/locks.js';

/** What an actor may ask for, and how often it does what else. */
export interface Habits {
  /** Makes up what to ask for next. */
  want(random: Random): Omit<Want, 'abortAfterMs' | 'atOnce'>;
  /** How often a semaphore is resized, and to what. */
  readonly resize?: { readonly chance: number; to(random: Random): number };
  /** How often a session is lost, for each turn. */
  readonly loseChance: number;
  /** Below which the keys of effects are. */
  readonly effects: string;
}

const KINDS: Partial<Record<Want['kind'], Claim['kind']>> = {
  permit: 'permit',
  read: 'read',
  shared: 'read',
};

/** These may happen: aborts, losses, and refusals that are the point. */
const EXPECTED =
  /^(SESSION_LOST|TICKET_LOST|LEASE_NOT_FOUND|NOT_HELD|DEADLOCK|MISMATCH|CLOSED|TimeoutError|RangeError: weight|RangeError: no hold)/;

/** One task of one process: asks, holds, writes, changes its hold, gives it back, over and over. */
export class LockActor extends Actor {
  readonly claims: Claim[] = [];
  readonly effects: Effect[] = [];
  readonly #habits: Habits;

  constructor(seat: Seat, habits: Habits) {
    super(seat);
    this.#habits = habits;
  }

  protected expects(error: string): boolean {
    return EXPECTED.test(error);
  }

  protected async turn(): Promise<void> {
    const { random, session } = this;
    const { resize, loseChance } = this.#habits;
    const want: Want = {
      ...this.#habits.want(random),
      abortAfterMs: this.patience(0.25, 15),
      atOnce: random.chance(0.2),
    };
    if (resize !== undefined && random.chance(resize.chance))
      await this.call('resize', session, want.names[0], want.limit, resize.to(random));
    if (random.chance(loseChance)) this.loseSession();
    const granted = await this.call<Granted | undefined>('acquire', session, want);
    if (granted === undefined) return;
    let hold = granted.hold;
    const kind = KINDS[want.kind] ?? 'write';
    let claims = this.#claim(granted, kind, want.weight, want.kind === 'lead' ? 'campaign' : 'arrival');
    try {
      await this.#work(hold, claims);
      if (want.kind === 'read' && random.chance(0.4)) {
        const upgraded = await this.call<Granted>('upgrade', hold, this.patience(0.4, 15));
        hold = upgraded.hold;
        claims = this.#claim(upgraded, 'write', 1, 'upgrade');
        await this.#work(hold, claims);
      }
      const exclusive = claims[0]?.kind === 'write' && (want.kind === 'read' || want.kind === 'write');
      if (exclusive && random.chance(0.4)) {
        const downgraded = await this.call<Granted>('downgrade', hold);
        hold = downgraded.hold;
        claims = this.#claim(downgraded, 'read', 1, 'downgrade');
        await this.#work(hold, claims);
      }
      if (want.kind === 'lead' && random.chance(0.5)) {
        await this.call('proclaim', hold, `${session} goes on`);
        await this.#work(hold, claims);
      }
    } finally {
      await this.call('release', hold);
    }
  }

  #claim(granted: Granted, kind: Claim['kind'], weight: number, by: Claim['by']): Claim[] {
    const claims = granted.keys.map((key): Claim => ({ by, key, kind, token: granted.token, weight }));
    this.claims.push(...claims);
    return claims;
  }

  /** Some guarded writes, and some time. */
  async #work(hold: number, claims: readonly Claim[]): Promise<void> {
    if (this.random.chance(0.5)) await this.pauseAtMost(5);
    if (!this.random.chance(0.7)) return;
    // What is lost here and now, before the session has heard of it, must not be written under either.
    if (this.random.chance(this.#habits.loseChance)) await this.call('lose', this.session);
    const key = `${this.#habits.effects}${this.session}`;
    const revision = await this.call<bigint | undefined>('write', hold, key);
    if (revision !== undefined) this.effects.push(...claims.map((claim) => ({ claim, revision })));
  }
}
