import { hasCode } from '../errors/conclave-error.js';
import { encodeValue } from '../etcd/kv/key-range.js';
import { Hold } from '../ticket/hold.js';
import type { Bytes } from '../util/bytes.js';

/** A leadership won. Its guard is the create revision of our key, so that `proclaim` does not end it. */
export class Leadership extends Hold {
  /** Changes the value that observers see. Rejects with `NOT_HELD` when we do not lead any more. */
  async proclaim(value: Bytes): Promise<void> {
    const bytes = encodeValue(value);
    try {
      await this.ticket.rewrite(bytes);
    } catch (error) {
      if (hasCode(error, 'NOT_HELD')) this.lost(error);
      throw error;
    }
  }

  /**
   * Ends the leadership here and now, before it is given up in etcd: `signal` aborts with `reason`, `held` is false, and
   * nobody else leads until `resign`. For who must finish something first.
   */
  stepDown(reason: unknown): void {
    this.ended(reason);
  }

  /**
   * Gives the leadership up. Resolves once that is confirmed; rejects when it cannot be, and may then be called again.
   * Calling twice is safe.
   */
  resign(): Promise<void> {
    return this.release();
  }
}
