/** How the users of a semaphore come to one limit, and change it. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import { KeyValue } from '../etcd/kv/key-value.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { inOrder } from '../ticket/line-keys.js';
import { nobodyIn } from '../ticket/nobody.js';
import { firstKv } from '../ticket/take.js';
import { kvsOf, readLine, readOp } from '../ticket/read-line.js';
import { MOST_RACES, type Outlook } from '../ticket/taking.js';
import type { Ticket } from '../ticket/ticket.js';
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
    const looks = [op.get(this.key), readOp(this.#name, { keysOnly: true })];
    const { responses, revision } = await client.kv.txn({ then: looks }, { signal });
    const [limit, below] = responses;
    const kvs = kvsOf(below);
    return { found: firstKv(limit), nobody: nobodyIn({ kvs, revision }, this.#name) };
  }

  /**
   * Changes the limit, once. Safe to repeat. Undefined: done. Otherwise it takes a `ticket` in line to do it, which does
   * what is returned when it leaves as the last: while it is there, users who come and go leave the limit alone, and what
   * makes the limit names a ticket that never returns, so that a copy of it that arrives late is refused.
   */
  async resize(
    client: Client,
    limit: number,
    { signal, ticket }: { readonly signal: AbortSignal; readonly ticket?: Ticket },
  ): Promise<Op[] | undefined> {
    for (let tries = 0; ; tries++) {
      const { found, nobody } = await this.look(client, signal);
      const agreed = found === undefined ? undefined : readLimit(found);
      const { declared, before, admitted } = agreed ?? { declared: this.#declared };
      if (found === undefined && limit === declared) return undefined; // Nobody uses it; the first to do so makes the same.
      if (found !== undefined && before !== undefined) {
        // Somebody shrank it who got no further, maybe we.
        await this.#settle(client, found.modRevision, readLimit(found), signal);
        continue;
      }
      // Back at what was declared, it need not outlast its users.
      const remove = limit === declared && nobody !== undefined;
      if (agreed?.limit === limit && !remove) return undefined;
      if (ticket === undefined && (found === undefined || tries > MOST_RACES))
        return forgetLimit(this.key, { declared, limit: declared });
      const shrinks = agreed !== undefined && limit < agreed.limit;
      const next: Limit = { admitted, before: shrinks ? agreed.limit : undefined, declared, limit };
      const same = [...this.#as(found), ...(ticket === undefined ? [] : [ticket.there])];
      const spec: TxnSpec = remove
        ? { if: [...same, ...nobody], then: [op.delete(this.key)] }
        : { if: same, then: [op.put(this.key, writeLimit(next))] };
      const { revision, succeeded } = await client.kv.txn(spec, { idempotent: true, signal });
      if (succeeded && shrinks && !remove) await this.#settle(client, revision, next, signal);
      if (succeeded) return undefined;
      // Somebody else wrote in between, or a first try of ours whose answer was lost; look again.
      await ticket?.mustBeOurs();
      await sleep(client.clock, backoffMs(tries), signal);
    }
  }

  /** Removes the agreement; false when somebody holds or waits. Safe to repeat. */
  async remove(client: Client, signal: AbortSignal): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      const { found, nobody } = await this.look(client, signal);
      if (nobody === undefined) return false;
      if (found === undefined) return true;
      // By its revision, too: a copy that arrives late must not remove what was agreed since.
      const steps = { if: [...this.#as(found), ...nobody], then: [op.delete(this.key)] };
      if ((await client.kv.txn(steps, { idempotent: true, signal })).succeeded) return true;
      await sleep(client.clock, backoffMs(tries), signal);
    }
  }

  /** The compare that holds for as long as nobody has written to the limit's key. */
  #as(found: KeyValue | undefined): Compare[] {
    return [
      found === undefined ? compare.missing(this.key) : compare.modRevision(this.key, '=', found.modRevision),
    ];
  }

  /** Writes down who was admitted when the limit shrank, which was at `revision`. Nothing, if it was changed since. */
  async #settle(client: Client, revision: bigint, shrunk: Limit, signal: AbortSignal): Promise<void> {
    const { admitted, before, declared, limit } = shrunk;
    const plain = { declared, limit };
    let settled: Limit = { ...plain, admitted };
    try {
      const { kvs } = await readLine(client.kv, { name: this.#name }, { revision, signal });
      const line = inOrder(kvs, this.#name);
      const held = [...admittedOf(line, { ...shrunk, limit: before ?? limit })];
      const fits = [...admittedOf(line, plain)].length >= held.length;
      settled = fits ? plain : { ...plain, admitted: Number(held.at(-1)?.createRevision) };
    } catch (error) {
      if (!hasCode(error, 'COMPACTED', 'FUTURE_REVISION')) throw error; // Too long ago: whoever does not fit counts as waiting.
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
