/**
 * What a client has seen of its cluster's history: which cluster it is, and the greatest revision of any answer. Every
 * answer's header carries both.
 *
 * History may go back: a member comes back empty or from a snapshot, or another cluster answers at the same address. An
 * answer with a smaller revision alone says little, since a member may lag; the answer to a write, or a linearizable read,
 * that was sent after the greater one was seen proves it. So every such call looks, and a watch that goes on elsewhere. (A
 * history that has grown past all that was seen before anybody looks is not told apart.)
 */

/** What a header says. */
export interface Moment {
  readonly clusterId: bigint;
  readonly revision: bigint;
}

/** What was known when a call was sent. */
export interface Sent {
  readonly epoch: number;
  readonly revision: bigint;
}

export class History {
  #latest: Moment | undefined;
  #epoch = 0;
  readonly #listeners = new Set<() => void>();

  /** How often it has begun anew. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The greatest revision seen; 0 before the first answer. */
  get revision(): bigint {
    return this.#latest?.revision ?? 0n;
  }

  /** An answer has come. One of another cluster tells nothing of this history. */
  saw(header: Moment | null | undefined): void {
    if (header == null || header.revision === 0n) return;
    if (this.#latest !== undefined && (this.isOther(header) || header.revision <= this.#latest.revision))
      return;
    this.#latest = header;
  }

  /**
   * Takes note of the answer to a call that is linearizable and was sent at `sent`: it tells of history, and may prove that
   * it is another one.
   */
  answered(header: Moment | null | undefined, sent: Sent): void {
    const isOlder = header != null && header.revision !== 0n && header.revision < sent.revision;
    // What was sent before it began anew tells of nothing that is not known.
    if (isOlder && sent.epoch === this.#epoch && !this.isOther(header)) this.begin(header);
    else this.saw(header);
  }

  /** Whether an answer is of another cluster. */
  isOther({ clusterId }: Moment): boolean {
    return this.#latest !== undefined && this.#latest.clusterId !== clusterId;
  }

  /** Whether an answer is older than what was seen. */
  isBehind({ revision }: Moment): boolean {
    return revision < this.revision;
  }

  /** Calls `listener` whenever it has begun anew. */
  onBegin(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** It was proven that history is another one, which is there now. */
  begin(header: Moment): void {
    this.#latest = header;
    this.#epoch += 1;
    for (const listener of [...this.#listeners]) listener();
  }
}
