/** The keepalive requests of one stream that wait for their answers, which come in the same order. */

/** A request that waits for its answer. */
export interface AskedLease {
  readonly id: bigint;
  readonly sentAt: number;
}

/** How far the front may move before the list is cut. */
const SPARE = 1024;

export class AskedLeases {
  #all: AskedLease[] = [];
  #front = 0;

  get size(): number {
    return this.#all.length - this.#front;
  }

  /** The request that the server is at. */
  get first(): AskedLease | undefined {
    return this.#all[this.#front];
  }

  /** The leases that wait. */
  get ids(): readonly bigint[] {
    return this.#all.slice(this.#front).map(({ id }) => id);
  }

  add(request: AskedLease): void {
    this.#all.push(request);
  }

  /**
   * Takes the request that an answer for lease `id` belongs to, and those before it, which have got none and will not:
   * `lost`. Undefined when none was made.
   */
  answered(id: bigint): { readonly request: AskedLease; readonly lost: readonly AskedLease[] } | undefined {
    let at = this.#front;
    while (at < this.#all.length && this.#all[at]?.id !== id) at += 1;
    const request = this.#all[at];
    if (request === undefined) return undefined;
    const lost = at === this.#front ? [] : this.#all.slice(this.#front, at);
    this.#front = at + 1;
    if (this.#front > SPARE && this.#front * 2 > this.#all.length) {
      this.#all = this.#all.slice(this.#front);
      this.#front = 0;
    }
    return { lost, request };
  }
}
