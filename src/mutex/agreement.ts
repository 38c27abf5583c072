/** How the users of a semaphore come to one limit, and change it. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/compare.js';
import { KeyValue } from '../etcd/key-value.js';
import { op, type TxnSpec } from '../etcd/op.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { inOrder } from '../ticket/line-keys.js';
import { nobodyIn } from '../ticket/nobody.js';
import { firstKv } from '../ticket/take.js';
import type { Outlook } from '../ticket/taking.js';
import { admittedOf, forgetLimit, type Limit, limitKeyOf, limitOf, readLimit, writeLimit } from './limit.js';

/** What was seen of an agreement. */
export interface Look {
  /** The limit's key. */
  readonly found: KeyValue | undefined;
  /** The compares that hold only while nobody is in line; undefined: somebody is, or nobody looked. */
  readonly nobody: readonly Compare[] | undefined;
}

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
  join({ found, nobody }: Look, weight: number): Outlook {
    const fresh: Limit = { declared: this.#declared, limit: this.#declared };
    if (found === undefined) return this.#make(fresh, weight, [compare.missing(this.key)]);
    const same = compare.value(this.key, '=', found.value);
    const agreed = readLimit(found);
    if (this.#declared === agreed.limit || this.#declared === agreed.declared) {
      this.#checkWeight(weight, agreed.limit);
      return { beside: found, guards: [same], last: forgetLimit(this.key, agreed) };
    }
    const resized = agreed.limit !== agreed.declared;
    if (nobody === undefined || resized) throw this.#mismatch(agreed);
    return this.#make(fresh, weight, [same, ...nobody]);
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

  /** Looks at the limit and the line. */
  async look(client: Client, signal?: AbortSignal): Promise<Look> {
    const line = { prefix: `${this.#name}/` };
    const looks = [op.get(this.key), op.get(line, { keysOnly: true })];
    const { responses, revision } = await client.kv.txn({ then: looks }, { signal });
    const [limit, below] = responses;
    const kvs = below?.type === 'get' ? below.kvs : [];
    return { found: firstKv(limit), nobody: nobodyIn({ kvs, revision }, this.#name) };
  }

  /** Changes the limit, once. Safe to repeat. */
  async resize(client: Client, limit: number, signal: AbortSignal): Promise<void> {
    for (let tries = 0; ; tries++) {
      const { found, nobody } = await this.look(client, signal);
      const agreed = found === undefined ? undefined : readLimit(found);
      const { declared, before, admitted } = agreed ?? { declared: this.#declared };
      if (found === undefined && limit === declared) return; // Nobody uses it; the first to do so makes the same.
      if (found !== undefined && before !== undefined) {
        // Somebody shrank it who got no further, maybe we.
        await this.#settle(client, found.modRevision, readLimit(found), signal);
        continue;
      }
      const same =
        found === undefined
          ? compare.missing(this.key)
          : compare.modRevision(this.key, '=', found.modRevision);
      // Back at what was declared, it need not outlast its users.
      const remove = limit === declared && nobody !== undefined;
      if (agreed?.limit === limit && !remove) return;
      const shrinks = agreed !== undefined && limit < agreed.limit;
      const next: Limit = { admitted, before: shrinks ? agreed.limit : undefined, declared, limit };
      const spec: TxnSpec = remove
        ? { if: [same, ...nobody], then: [op.delete(this.key)] }
        : { if: [same], then: [op.put(this.key, writeLimit(next))] };
      const { revision, succeeded } = await client.kv.txn(spec, { idempotent: true, signal });
      if (succeeded && shrinks && !remove) await this.#settle(client, revision, next, signal);
      if (succeeded) return;
      // Somebody else wrote in between, or a first try of ours whose answer was lost; look again.
      await sleep(client.clock, backoffMs(tries), signal);
    }
  }

  /** Removes the agreement; false when somebody holds or waits. Safe to repeat. */
  async remove(client: Client): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      const { nobody } = await this.look(client);
      if (nobody === undefined) return false;
      const steps = { if: nobody, then: [op.delete(this.key)] };
      if ((await client.kv.txn(steps, { idempotent: true })).succeeded) return true;
      await sleep(client.clock, backoffMs(tries), client.closed);
    }
  }

  /** Writes down who was admitted when the limit shrank, which was at `revision`. Nothing, if it was changed since. */
  async #settle(client: Client, revision: bigint, shrunk: Limit, signal: AbortSignal): Promise<void> {
    const { admitted, before, declared, limit } = shrunk;
    const plain = { declared, limit };
    let settled: Limit = { ...plain, admitted };
    try {
      const { kvs } = await client.kv.range({ prefix: `${this.#name}/` }, { revision, signal });
      const line = inOrder(kvs, this.#name);
      const held = [...admittedOf(line, { ...shrunk, limit: before ?? limit })];
      const fits = [...admittedOf(line, plain)].length >= held.length;
      settled = fits ? plain : { ...plain, admitted: Number(held.at(-1)?.createRevision) };
    } catch (error) {
      if (!hasCode(error, 'COMPACTED')) throw error; // Too long ago: whoever does not fit counts as waiting.
    }
    const same = compare.modRevision(this.key, '=', revision);
    const write = { if: [same], then: [op.put(this.key, writeLimit(settled))] };
    await client.kv.txn(write, { idempotent: true, signal });
  }

  #make(limit: Limit, weight: number, guards: Outlook['guards'] & {}): Outlook {
    this.#checkWeight(weight, limit.limit);
    const value = writeLimit(limit);
    return {
      also: [op.put(this.key, value)],
      beside: imagined(this.key, value),
      guards,
      last: forgetLimit(this.key, limit),
    };
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
