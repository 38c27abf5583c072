/** What is asked for at a time: what is done in etcd when nobody asks for it is done by a copy of a request that comes late. */
import type { Stage } from './stage.js';

export class Asked {
  readonly #calls = new Map<string, number>();

  /** A call begins that asks for it. Returns what ends it: the call is over, and certainly does nothing more. */
  begins(what: string): () => void {
    this.#calls.set(what, (this.#calls.get(what) ?? 0) + 1);
    return () => void this.#calls.set(what, (this.#calls.get(what) ?? 0) - 1);
  }

  /** It is done in etcd. Not judged when what etcd had has come back. */
  done(stage: Stage, what: string, revision: bigint): void {
    if ((this.#calls.get(what) ?? 0) === 0 && stage.eras.length === 1)
      stage.violate('unasked', `${what}, at ${revision}, and nobody asks for it`);
  }
}
