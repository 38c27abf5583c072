import type { Claim, Effect } from './lock-checks.js';
import { type Fleet, WorkerError } from './fleet.js';
import type { Random } from './random.js';
import type { Granted, Want } from './subjects/locks.js';

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

/** What must not happen in a fault-free run is told; these may: aborts, losses, and refusals that are the point. */
const EXPECTED =
  /^(GONE|SESSION_LOST|TICKET_LOST|LEASE_NOT_FOUND|NOT_HELD|DEADLOCK|MISMATCH|CLOSED|TimeoutError|RangeError: weight|RangeError: no hold)/;

/** One task of one process: asks, holds, writes, changes its hold, gives it back, over and over. */
export class LockActor {
  readonly claims: Claim[] = [];
  readonly effects: Effect[] = [];
  readonly problems: string[] = [];
  readonly #fleet: Fleet;
  readonly #at: number;
  readonly #session: string;
  readonly #random: Random;
  readonly #habits: Habits;

  constructor(fleet: Fleet, place: { at: number; session: string }, random: Random, habits: Habits) {
    this.#fleet = fleet;
    this.#at = place.at;
    this.#session = place.session;
    this.#random = random;
    this.#habits = habits;
  }

  /** Goes on until `over` says so; then resolves once what it holds is given back. */
  async run(over: () => boolean): Promise<void> {
    while (!over()) {
      try {
        await this.#turn();
      } catch (error) {
        if (!(error instanceof WorkerError) || !EXPECTED.test(error.message))
          this.problems.push(String(error));
        // A process that was killed is replaced soon.
        await pause(error instanceof WorkerError && error.message === 'GONE' ? 50 : 0);
      }
    }
  }

  async #turn(): Promise<void> {
    const random = this.#random;
    const { resize, loseChance } = this.#habits;
    const want: Want = {
      ...this.#habits.want(random),
      abortAfterMs: random.chance(0.25) ? random.int(15) : undefined,
      atOnce: random.chance(0.2),
    };
    if (resize !== undefined && random.chance(resize.chance))
      await this.#call('resize', this.#session, want.names[0], want.limit, resize.to(random));
    if (random.chance(loseChance)) void this.#call('lose', this.#session).catch(() => undefined);
    const granted = (await this.#call('acquire', this.#session, want)) as Granted | undefined;
    if (granted === undefined) return;
    let hold = granted.hold;
    const kind = want.kind === 'read' ? 'read' : want.kind === 'permit' ? 'permit' : 'write';
    let claims = this.#claim(granted, kind, want.weight, 'arrival');
    try {
      await this.#work(hold, claims);
      if (want.kind === 'read' && random.chance(0.4)) {
        const abortAfterMs = random.chance(0.4) ? random.int(15) : undefined;
        const upgraded = (await this.#call('upgrade', hold, abortAfterMs)) as Granted;
        hold = upgraded.hold;
        claims = this.#claim(upgraded, 'write', 1, 'upgrade');
        await this.#work(hold, claims);
      }
      const exclusive = claims[0]?.kind === 'write' && (want.kind === 'read' || want.kind === 'write');
      if (exclusive && random.chance(0.4)) {
        const downgraded = (await this.#call('downgrade', hold)) as Granted;
        hold = downgraded.hold;
        claims = this.#claim(downgraded, 'read', 1, 'downgrade');
        await this.#work(hold, claims);
      }
    } finally {
      await this.#call('release', hold);
    }
  }

  #claim(granted: Granted, kind: Claim['kind'], weight: number, by: Claim['by']): Claim[] {
    const claims = granted.keys.map((key): Claim => ({ by, key, kind, token: granted.token, weight }));
    this.claims.push(...claims);
    return claims;
  }

  /** Some guarded writes, and some time. */
  async #work(hold: number, claims: readonly Claim[]): Promise<void> {
    if (this.#random.chance(0.5)) await pause(this.#random.int(5));
    if (!this.#random.chance(0.7)) return;
    const key = `${this.#habits.effects}${this.#session}`;
    const revision = (await this.#call('write', hold, key)) as bigint | undefined;
    if (revision !== undefined) this.effects.push(...claims.map((claim) => ({ claim, revision })));
  }

  #call(operation: string, ...args: readonly unknown[]): Promise<unknown> {
    return this.#fleet.call(this.#at, operation, ...args);
  }
}

/** Lets others go on; nothing depends on how long it is. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
