import { Actor, type Seat } from './actor.js';
import type { Closed, Mode } from './subjects/barrier.js';
import type { Outcome } from './window.js';

const MODES: readonly Mode[] = ['break', 'open', 'stay'];

/** An attempt to hold a barrier. */
export interface Attempt extends Outcome<Closed> {
  readonly mode: Mode;
  /** The session's name. */
  readonly by: string | undefined;
}

/** What an actor saw of a barrier, to be judged. */
export class BarrierActor extends Actor {
  readonly inspections: Outcome<string>[] = [];
  readonly resets: Outcome<boolean>[] = [];
  protected readonly name: string;

  constructor(seat: Seat, name: string) {
    super(seat);
    this.name = name;
  }

  protected async turn(): Promise<void> {
    this.inspections.push(await this.outcome('inspect', this.name));
    await this.pauseAtMost(10);
  }

  protected expects(error: string): boolean {
    return /^(LEASE_NOT_FOUND|RangeError: no hold)/.test(error);
  }
}

/** Closes the barrier, and opens it again, or dies. */
export class BarrierHolder extends BarrierActor {
  readonly attempts: Attempt[] = [];
  readonly releases: { readonly token: bigint; readonly outcome: Outcome }[] = [];
  readonly effects: { readonly token: bigint; readonly revision: bigint }[] = [];

  protected override async turn(): Promise<void> {
    const { name, random } = this;
    const mode = random.pick(MODES);
    const by = mode === 'stay' && random.chance(0.5) ? undefined : this.session;
    const asked = await this.outcome<Closed>('hold', by, name, mode, this.patience(0.2, 8));
    this.attempts.push({ ...asked, by, mode });
    if (asked.value === undefined) {
      // Else what a dead holder left closed would stay so.
      if (random.chance(0.15)) this.resets.push(await this.outcome('reset', name));
      await this.pauseAtMost(10);
      return;
    }
    await this.#hold(asked.value, by);
  }

  async #hold({ hold, token }: Closed, by: string | undefined): Promise<void> {
    const { random } = this;
    if (random.chance(0.5)) await this.pauseAtMost(10);
    if (random.chance(0.5)) {
      const revision = await this.call<bigint | undefined>('write', hold, `effects/${this.session}`);
      if (revision !== undefined) this.effects.push({ revision, token });
    }
    // Dies, or does so while it opens.
    if (by !== undefined && random.chance(0.4)) {
      this.loseSession();
      if (random.chance(0.7)) return;
    }
    this.releases.push({ outcome: await this.outcome('release', hold), token });
  }
}

/** Waits for the barrier to open. */
export class BarrierWaiter extends BarrierActor {
  readonly waits: Outcome[] = [];

  protected override async turn(): Promise<void> {
    const { name, random } = this;
    const by = random.chance(0.5) ? undefined : this.session;
    this.waits.push(await this.outcome('wait', by, name, this.patience(0.4, 20)));
    if (random.chance(0.3)) await super.turn();
  }
}
