import type { History } from './history.js';
import type { Window } from './window.js';

/** A state, and from which revision on it was so. */
interface Stretch<S> {
  readonly from: bigint;
  readonly state: S;
}

/** What a run's keys meant, at every revision that changed them. */
export class Timeline<S> {
  readonly #stretches: Stretch<S>[];

  /** `read` says what the keys mean as of a revision. */
  constructor(history: History, read: (revision: bigint) => S) {
    this.#stretches = [0n, ...history.revisions].map((from) => ({ from, state: read(from) }));
  }

  /** Every state that there was in the window, in order. */
  during({ before, after }: Window): S[] {
    const last = this.#stretches.findLastIndex(({ from }) => from <= after);
    const first = this.#stretches.findLastIndex(({ from }) => from <= before);
    return this.#stretches.slice(first, last + 1).map(({ state }) => state);
  }

  /** The state as of a revision. */
  at(revision: bigint): S | undefined {
    return this.during({ after: revision, before: revision })[0];
  }
}
