/** The steps of one transaction on the target: as many as it takes. */
import { type Op, op } from '../kv/op.js';

/** Etcd takes requests of 1.5 MiB by default. */
const MOST_BYTES = 1.25 * 1024 * 1024;
/** What a step takes beside its key and value, at most. */
const STEP_BYTES = 32;

export class Steps {
  readonly #most: number;
  /** By key: etcd takes no two for the same. */
  readonly #all = new Map<string, Op>();
  #bytes = 0;

  /** `maxTxnOps`: how many operations the target takes. One is that which writes the progress. */
  constructor(maxTxnOps: number) {
    this.#most = maxTxnOps - 1;
  }

  get all(): readonly Op[] {
    return [...this.#all.values()];
  }

  /** Adds the step that gives the key this value, or undefined: deletes it. False: there is no room for it. */
  add(key: Buffer, value: Buffer | undefined): boolean {
    const bytes = key.length + (value?.length ?? 0) + STEP_BYTES;
    const id = key.toString('latin1');
    const isFull = this.#all.size >= this.#most || this.#bytes + bytes > MOST_BYTES;
    if (this.#all.size > 0 && isFull && !this.#all.has(id)) return false;
    this.#bytes += bytes;
    this.#all.set(id, value === undefined ? op.delete(key) : op.put(key, value));
    return true;
  }
}
