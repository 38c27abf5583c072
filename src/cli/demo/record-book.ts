import { hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import { compare } from '../../etcd/kv/compare.js';
import { type Op, op } from '../../etcd/kv/op.js';
import type { Leadership } from '../../election/leadership.js';
import type { DemoKeys } from './keys.js';

/** A record's value. */
export interface RecordValue {
  readonly worker: string;
  /** The writer's fencing token, in decimal. */
  readonly token: string;
}

/** One leader's hand on the numbered records. Every write commits only while its leadership lasts. */
export class RecordBook {
  readonly #client: Client;
  readonly #keys: DemoKeys;
  readonly #leadership: Leadership;
  readonly #worker: string;
  #last = { modRevision: 0n, number: 0 };

  private constructor(client: Client, keys: DemoKeys, leadership: Leadership, worker: string) {
    this.#client = client;
    this.#keys = keys;
    this.#leadership = leadership;
    this.#worker = worker;
  }

  /** Reads where the term before has left off. */
  static async open(
    client: Client,
    keys: DemoKeys,
    leadership: Leadership,
    worker: string,
  ): Promise<RecordBook> {
    const book = new RecordBook(client, keys, leadership, worker);
    await book.#look();
    return book;
  }

  /**
   * Writes the next record. Resolves with its number and revision once etcd has confirmed it; with undefined when the
   * answer was lost, so that nobody knows. Rejects with `NOT_HELD` once the leadership is over.
   */
  async append(): Promise<{ readonly number: number; readonly revision: bigint } | undefined> {
    const number = this.#last.number + 1;
    const unmoved = compare.modRevision(this.#keys.last, '=', this.#last.modRevision);
    try {
      const { revision, succeeded } = await this.#leadership.txn({
        if: [unmoved],
        then: this.#steps(number),
      });
      if (succeeded) {
        this.#last = { modRevision: revision, number };
        return { number, revision };
      }
    } catch (error) {
      if (!hasCode(error, 'UNKNOWN_OUTCOME')) throw error;
    }
    await this.#look();
    return undefined;
  }

  /**
   * The write of a leader that does not know yet that it was replaced: as `append`, but past the check that
   * `leadership.txn` makes on our side, so that etcd alone decides. Resolves with whether etcd took it, and its answer's revision.
   */
  async writeLate(): Promise<{ readonly accepted: boolean; readonly revision: bigint }> {
    const { fencingToken } = this.#leadership;
    const marker = op.put(this.#keys.lateWrite(fencingToken), this.#worker);
    const { revision, succeeded } = await this.#client.kv.txn(
      { if: this.#leadership.guard(), then: [...this.#steps(this.#last.number + 1), marker] },
      { idempotent: true },
    );
    return { accepted: succeeded, revision };
  }

  #steps(number: number): Op[] {
    const value: RecordValue = { token: String(this.#leadership.fencingToken), worker: this.#worker };
    return [
      op.put(this.#keys.record(number), JSON.stringify(value)),
      op.put(this.#keys.last, String(number)),
    ];
  }

  async #look(): Promise<void> {
    const kv = await this.#client.kv.get(this.#keys.last);
    this.#last =
      kv === undefined
        ? { modRevision: 0n, number: 0 }
        : { modRevision: kv.modRevision, number: Number(kv.string()) };
  }
}
