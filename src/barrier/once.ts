/**
 * Writes that are applied once, however often and however late they arrive.
 *
 * A write whose answer is lost is sent again, and the first copy may arrive when the second was done and undone. If it
 * creates a key on the condition that the key is missing, it would then do its work a second time: "missing" is a state
 * that returns. So such a write takes a permit first: a key of its own, `name/.once/<id>`, bound to a lease. The write
 * compares the permit's create revision, which never returns, and whichever copy comes first removes the permit, whatever
 * else it finds. To remove the permit is thus also how a write on its way is called off, for good.
 *
 * A late copy of the request for a permit makes a permit that nobody asks for. It does nothing, and is removed as the
 * session's floor rises past it (src/session/floor.ts), or ends with its lease.
 */

import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { OpResult } from '../etcd/kv/kv-results.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import type { AttemptNumber } from '../session/floor.js';
import type { Session } from '../session/session.js';
import { chance } from '../util/chance.js';

/** For whom, and of what, a write is made. */
export interface OnceTerms {
  readonly client: Client;
  /** On whose lease the permit is; undefined: on one of its own, which ends when the write is over. */
  readonly session: Session | undefined;
  /** The name of the barrier or latch. */
  readonly name: string;
}

/** What is to be done if the conditions hold, and what is to be read if they do not. */
export interface OnceSpec {
  readonly if: readonly Compare[];
  readonly then: readonly Op[];
  readonly else: readonly Op[];
}

/** What came of it. Not applied: what `else` read, as of `revision`. */
export type OnceResult =
  | { readonly applied: true; readonly revision: bigint }
  | { readonly applied: false; readonly found: readonly OpResult[]; readonly revision: bigint };

/** How long a permit on a lease of its own is good for, should its process die. */
const TTL_SECONDS = 10;

/** One write, tried until it is applied, refused, or called off. */
export class Once {
  /** The permit's key. Whoever removes it calls the write off. */
  readonly key: string;
  readonly #terms: OnceTerms;
  #leaseId: bigint | undefined;
  /** Of the requests for the permit, on a session's lease. */
  readonly #asked: AttemptNumber[] = [];

  constructor(terms: OnceTerms) {
    this.#terms = terms;
    this.#leaseId = terms.session?.leaseId;
    this.key = `${terms.name}/.once/${chance.id()}`;
  }

  /**
   * Makes the write, if the conditions hold. May be called again when they did not. `signal` keeps what was not sent from
   * being sent; it does not take back what was. After a rejection it must be called off.
   */
  async write(spec: OnceSpec, signal?: AbortSignal): Promise<OnceResult> {
    const { kv } = this.#terms.client;
    const asked = await this.#ask(spec);
    if (!('permit' in asked)) return asked;
    signal?.throwIfAborted();
    const spend = op.delete(this.key);
    const conditions = [...spec.if, compare.createRevision(this.key, '=', asked.permit)];
    const once = { else: [...spec.else, spend], if: conditions, then: [...spec.then, spend] };
    const { responses, revision, succeeded } = await this.#sent(() => kv.txn(once, { idempotent: true }));
    return succeeded ? { applied: true, revision } : { applied: false, found: responses, revision };
  }

  /** Calls the write off, for as long as the client is there. Once it resolves, no copy of it will be applied any more. */
  async callOff(): Promise<void> {
    const { client } = this.#terms;
    await untilAnswered(client.clock, client.closed, () =>
      client.kv.txn(this.#removal, { idempotent: true }),
    );
  }

  /** It is over: removes what is left of it. Resolves soon, and never rejects; what cannot be removed ends with its lease. */
  async end(): Promise<void> {
    const { client, session } = this.#terms;
    if (session === undefined) {
      if (this.#leaseId !== undefined) await client.lease.revoke(this.#leaseId).catch(() => undefined);
    } else {
      for (const { number } of this.#asked) session.floor.end(number, () => ({ removals: [this.#removal] }));
    }
  }

  get #removal(): TxnSpec {
    return { if: [compare.exists(this.key)], then: [op.delete(this.key)] };
  }

  /** Asks for a permit, which is given only while the conditions hold. */
  async #ask(spec: OnceSpec): Promise<{ readonly permit: bigint } | OnceResult> {
    const { client, session } = this.#terms;
    this.#leaseId ??= (await client.lease.grant(TTL_SECONDS)).id;
    const permit = op.put(this.key, '', { leaseId: this.#leaseId });
    const number = session?.floor.next();
    if (number !== undefined) this.#asked.push(number);
    const conditions = [...spec.if, ...(number?.guards ?? [])];
    // Read after it was written: an earlier copy may have made it.
    const asking = { else: spec.else, if: conditions, then: [permit, op.get(this.key)] };
    const { responses, revision, succeeded } = await this.#sent(() =>
      client.kv.txn(asking, { idempotent: true }),
    ).finally(number?.settled);
    if (!succeeded) {
      const isRefused = session === undefined || (await number?.isIntact(session.signal)) === true;
      return isRefused ? { applied: false, found: responses, revision } : this.#ask(spec);
    }
    const last = responses.at(-1);
    return { permit: (last?.type === 'get' ? last.kvs[0]?.createRevision : undefined) ?? revision };
  }

  async #sent<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (hasCode(error, 'LEASE_NOT_FOUND')) this.#terms.session?.leaseIsGone();
      throw error;
    }
  }
}
