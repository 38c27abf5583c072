/** How the users of a semaphore come to one limit, and change it. */
import { ConclaveError } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { compare } from '../etcd/compare.js';
import { KeyValue } from '../etcd/key-value.js';
import { op, type TxnSpec } from '../etcd/op.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Outlook } from '../ticket/taking.js';
import { type Limit, limitKeyOf, limitOf, readLimit, writeLimit } from './limit.js';

/** One user's part in the agreement. */
export class Agreement {
  readonly key: string;
  readonly #name: string;
  readonly #declared: number;

  constructor(name: string, declared: number) {
    this.key = limitKeyOf(name);
    this.#name = name;
    this.#declared = declared;
  }

  /**
   * How to join with a permit of `weight`, if the limit's key is `found`. The first user creates it. Whoever declares
   * what is agreed, or what was agreed before a resize, joins. An agreement that nobody uses (its users crashed) and that
   * was not made by a resize gives way. Throws `MISMATCH`, naming both, or RangeError when the weight can never fit.
   */
  join(found: KeyValue | undefined, unused: boolean, weight: number): Outlook {
    const fresh: Limit = { declared: this.#declared, limit: this.#declared };
    if (found === undefined) return this.#make(fresh, weight, [compare.missing(this.key)]);
    const same = compare.value(this.key, '=', found.value);
    const agreed = readLimit(found);
    if (this.#declared === agreed.limit || this.#declared === agreed.declared) {
      this.#checkWeight(weight, agreed.limit);
      return { beside: found, guards: [same], last: this.#farewell(agreed) };
    }
    const resized = agreed.limit !== agreed.declared;
    if (!unused || resized) throw this.#mismatch(agreed);
    return this.#make(fresh, weight, [same, this.#nobodyInLine]);
  }

  /** Why a permit of `weight` can no longer be waited for, now that the limit's key is `found`; undefined: it can. */
  hopeless(found: KeyValue | undefined, weight: number): ConclaveError | undefined {
    const { key } = this;
    if (found === undefined) {
      return new ConclaveError('MISMATCH', `${key} was removed while a permit was waited for`, { key });
    }
    const limit = limitOf(found);
    if (limit !== undefined && weight <= limit) return undefined;
    const text = `${this.#name} was resized to ${String(limit ?? found.string())} while a permit of weight ${String(weight)} was waited for`;
    return new ConclaveError('MISMATCH', text, { key });
  }

  /** Changes the limit, once. Safe to repeat. */
  async resize(client: Client, limit: number, signal: AbortSignal): Promise<void> {
    for (let tries = 0; ; tries++) {
      const found = await client.kv.get(this.key, { signal });
      const declared = found === undefined ? this.#declared : readLimit(found).declared;
      const value = writeLimit({ declared, limit });
      if (found?.value.equals(Buffer.from(value)) === true) return;
      if (found === undefined && limit === declared) return; // Nobody uses it; the first to do so makes the same.
      const same =
        found === undefined
          ? compare.missing(this.key)
          : compare.modRevision(this.key, '=', found.modRevision);
      const write: TxnSpec = { if: [same], then: [op.put(this.key, value)] };
      // Back at what was declared, it need not outlast its users.
      const remove: TxnSpec = {
        else: [op.txn(write)],
        if: [same, this.#nobodyInLine],
        then: [op.delete(this.key)],
      };
      const spec = limit === declared ? remove : write;
      const { responses, succeeded } = await client.kv.txn(spec, { idempotent: true, signal });
      const [instead] = responses;
      if (succeeded || (instead?.type === 'txn' && instead.succeeded)) return;
      // Somebody else wrote in between, or a first try of ours whose answer was lost; look again.
      await sleep(client.clock, backoffMs(tries), signal);
    }
  }

  /** Removes the agreement; false when somebody holds or waits. Safe to repeat. */
  async remove(client: Client): Promise<boolean> {
    const steps = { if: [this.#nobodyInLine], then: [op.delete(this.key)] };
    return (await client.kv.txn(steps, { idempotent: true })).succeeded;
  }

  get #nobodyInLine(): ReturnType<typeof compare.missing> {
    return compare.createRevision({ prefix: `${this.#name}/` }, '=', 0n);
  }

  #make(limit: Limit, weight: number, guards: Outlook['guards'] & {}): Outlook {
    this.#checkWeight(weight, limit.limit);
    const value = writeLimit(limit);
    return {
      also: [op.put(this.key, value)],
      beside: imagined(this.key, value),
      guards,
      last: this.#farewell(limit),
    };
  }

  /** The last to leave removes the limit, unless it was resized. */
  #farewell({ declared }: Limit): TxnSpec {
    const asDeclared = compare.value(this.key, '=', writeLimit({ declared, limit: declared }));
    return { if: [asDeclared], then: [op.delete(this.key)] };
  }

  #checkWeight(weight: number, limit: number): void {
    if (weight <= limit) return;
    throw new RangeError(
      `weight must be at most the limit of ${this.#name}, which is ${String(limit)}, not ${String(weight)}`,
    );
  }

  #mismatch({ limit, declared }: Limit): ConclaveError {
    const was = limit === declared ? '' : ` (resized from ${String(declared)})`;
    const text = `${this.#name} has the limit ${String(limit)}${was}, not ${String(this.#declared)}: use the same limit everywhere, or call resize(${String(this.#declared)})`;
    return new ConclaveError('MISMATCH', text, { key: this.key });
  }
}

/** The limit's key as it will be once it has been written. */
function imagined(key: string, value: string): KeyValue {
  const bytes = Buffer.from(value);
  return new KeyValue({
    createRevision: 0n,
    key: Buffer.from(key),
    lease: 0n,
    modRevision: 0n,
    value: bytes,
    version: 1n,
  });
}
