/** An attempt to hold: waits, holds for a while, writes under the guard, and gives back; each step in the history. */
import { type Hold, op } from 'conclave';

import type { AttemptAt, Keys } from './stage.js';
import { known, type Seat } from './workload.js';

/** What can be given back. */
export type Held = Pick<
  Hold,
  'createRevision' | 'fencingToken' | 'held' | 'key' | 'signal' | 'txn' | 'wasLost'
> &
  ({ unlock(): Promise<void> } | { resign(): Promise<void> } | { release(): Promise<void> });

/** What is asked for. */
export interface Wanted<H extends Held> {
  /** Each counts as an attempt of its own. */
  readonly names: readonly string[];
  readonly take: () => Promise<H | undefined>;
  /** Told when it is held, before the history is. */
  readonly took?: () => void;
  /** What the history tells of it from the first record on. */
  readonly traits?: Readonly<Record<string, unknown>>;
}

/** Asks for it. Resolves with what is held; undefined when it was not to be had. */
export async function ask<H extends Held>(
  seat: Seat,
  { names, take, took, traits = {} }: Wanted<H>,
): Promise<Taken<H> | undefined> {
  const { stage } = seat;
  stage.operations += 1;
  const attempts = names.map((name) => ({ attempt: stage.next('attempt'), name }));
  for (const about of attempts) seat.note({ ...about, is: 'acquire', ...traits });
  const hold = await take().catch(known);
  if (hold !== undefined) {
    took?.();
    return new Taken(seat, hold, attempts);
  }
  for (const about of attempts) seat.note({ ...about, is: 'gaveUp' });
  return undefined;
}

/** Holds it for a while, writes, and gives it back. */
export async function holdFor<H extends Held>(seat: Seat, wanted: Wanted<H>): Promise<void> {
  const taken = await ask(seat, wanted);
  await taken?.work();
  await taken?.giveBack();
}

/** What is held. */
export class Taken<H extends Held> {
  readonly hold: H;
  readonly #seat: Seat;
  readonly #attempts: readonly AttemptAt[];
  /** What etcd had may be what it has again, after that. */
  readonly #era: number;
  #isOver = false;

  constructor(seat: Seat, hold: H, attempts: readonly AttemptAt[]) {
    this.#seat = seat;
    this.hold = hold;
    this.#attempts = attempts;
    this.#era = seat.stage.eras.length;
    seat.stage.holds(hold, attempts);
    this.#note({ is: 'held', token: hold.fencingToken });
    const lost = (): void => {
      if (!this.#isOver) this.#note({ is: 'lossSignal' });
    };
    hold.signal.addEventListener('abort', lost, { once: true });
    if (hold.signal.aborted) lost();
  }

  /** Takes its time, and writes under the guard. */
  async work(): Promise<void> {
    const { random, stage } = this.#seat;
    const writes = random.below(3);
    for (let at = 0; at < writes; at++) {
      await this.#seat.sleep(random.between(0, 300));
      if (!this.hold.held) break;
      // It stands where it is asked for; its revision is that of its commit.
      stage.operations += 1;
      const noted = this.#note({ is: 'guardedWrite', revision: undefined });
      const then = this.#attempts.map(({ attempt, name }) => op.put(`w/${name}`, String(attempt)));
      const result = await this.hold.txn({ then }).catch(known);
      // One that comes after etcd was restored has a revision of another history.
      const isOfEra = stage.eras.length === this.#era;
      if (result?.succeeded === true && isOfEra) for (const each of noted) each['revision'] = result.revision;
    }
    await this.#seat.sleep(random.between(0, random.chance(0.05) && !stage.isStopping ? 4000 : 400));
  }

  async giveBack(): Promise<void> {
    if (this.#seat.random.chance(0.5)) await this.#untilHeard();
    this.ends();
    this.#seat.stage.operations += 1;
    const { hold } = this;
    if (hold.wasLost && this.#seat.random.chance(0.5)) {
      await this.#untilGone();
      return;
    }
    const given = 'unlock' in hold ? hold.unlock() : 'resign' in hold ? hold.resign() : hold.release();
    await given.catch(known);
  }

  /** Whoever's key is gone hears of it, for as long as the session lives. */
  async #untilHeard(): Promise<void> {
    const { session, stage } = this.#seat;
    const { createRevision, key, keys = [key] }: Keys = this.hold;
    const isThere = (): boolean => keys.every((its) => stage.has({ createRevision, key: its }));
    while (this.hold.held && session.alive && stage.eras.length === this.#era && !isThere())
      await this.#seat.sleep(100);
  }

  /** What was lost gives itself back, for as long as the session lives. */
  async #untilGone(): Promise<void> {
    const { session, stage } = this.#seat;
    const { createRevision, key, keys = [key] }: Keys = this.hold;
    while (keys.some((its) => stage.has({ createRevision, key: its }))) {
      await this.#seat.sleep(100);
      if (!session.alive || stage.eras.length > this.#era) return;
    }
  }

  /** The number of the attempt, if it is of one name. */
  get attempt(): number | undefined {
    return this.#attempts[0]?.attempt;
  }

  /** It is not held any more, or is held as something else. */
  ends(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#note({ is: 'release' });
  }

  #note(record: Record<string, unknown>): Record<string, unknown>[] {
    return this.#attempts.map((about) => this.#seat.note({ ...about, ...record }));
  }
}
