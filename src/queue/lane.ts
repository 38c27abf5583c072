/**
 * A lane: transactions of one session, one after the other, each applied exactly once, even if its answer is lost.
 *
 * Key: one, bound to the session's lease. Each transaction compares its mod revision and writes it, so of two copies of
 * a transaction only one can be applied, and none once a later one was, or once the lease is gone. A copy that comes too
 * late reads the key instead and so learns from its serial number that the first copy was applied.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import { compare } from '../etcd/compare.js';
import type { OpResult, TxnResult } from '../etcd/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';

/** What came of a transaction. `responses` are those of the steps that were given, in their order. */
export type Outcome =
  | { readonly is: 'applied'; readonly revision: bigint; readonly responses: readonly OpResult[] }
  /** It was applied, at `revision`, and its answer is lost. */
  | { readonly is: 'appliedUnseen'; readonly revision: bigint }
  /** Its own conditions did not hold; `responses` are those of `else`. */
  | { readonly is: 'refused'; readonly revision: bigint; readonly responses: readonly OpResult[] };

export class Lane {
  readonly key: string;
  readonly #session: Session;
  #serial = 0;
  #modRevision: bigint;

  private constructor(session: Session, key: string, modRevision: bigint) {
    this.#session = session;
    this.key = key;
    this.#modRevision = modRevision;
  }

  /** Makes the lane. Its key must be new: nobody else has ever used it. */
  static async open(session: Session, key: string): Promise<Lane> {
    const { result } = await insist(session, key, {
      if: [compare.missing(key)],
      then: [op.put(key, '0', { leaseId: session.leaseId })],
      else: [op.get(key)],
    });
    const [found] = result.responses;
    const modRevision = found?.type === 'get' ? found.kvs[0]?.modRevision : undefined;
    return new Lane(session, key, result.succeeded ? result.revision : (modRevision ?? 0n));
  }

  /**
   * Runs a transaction; the previous one must be settled. It goes on trying for as long as the session lives. Rejects
   * with `SESSION_LOST` or `CLOSED` when the session ended and nothing was applied, `NOT_HELD` when only the lane's key
   * was removed from outside, `UNKNOWN_OUTCOME` when either happened and nobody knows, and with what etcd has against the
   * transaction.
   */
  async run(spec: TxnSpec): Promise<Outcome> {
    const serial = String(this.#serial + 1);
    const { leaseId } = this.#session;
    const { result, repeated } = await insist(this.#session, this.key, {
      if: [compare.modRevision(this.key, '=', this.#modRevision), ...(spec.if ?? [])],
      then: [op.put(this.key, serial, { leaseId }), ...(spec.then ?? [])],
      else: [op.get(this.key), ...(spec.else ?? [])],
    });
    const { revision } = result;
    const [own, ...responses] = result.responses;
    if (result.succeeded) {
      this.#serial += 1;
      this.#modRevision = revision;
      return { is: 'applied', responses, revision };
    }
    const kv = own?.type === 'get' ? own.kvs[0] : undefined;
    if (kv === undefined) throw await this.#gone(repeated);
    if (kv.modRevision === this.#modRevision) return { is: 'refused', responses, revision };
    if (kv.string() !== serial) throw await this.#gone(repeated);
    this.#serial += 1;
    this.#modRevision = kv.modRevision;
    return { is: 'appliedUnseen', revision: kv.modRevision };
  }

  /** Removes the lane, and does `more` in the same transaction. False, and nothing is done, when it is gone already. */
  async close(more: readonly Op[] = []): Promise<boolean> {
    const { result } = await insist(this.#session, this.key, {
      if: [compare.modRevision(this.key, '=', this.#modRevision)],
      then: [op.delete(this.key), ...more],
    });
    return result.succeeded;
  }

  /** Why the key is gone: with the lease, of whose end the session may not have heard yet, or alone. */
  async #gone(repeated: boolean): Promise<unknown> {
    await this.#session.checkLease().catch(() => undefined);
    if (repeated || !this.#session.alive) return ended(this.#session, this.key, repeated);
    const text = `${this.key} was removed by somebody else; nothing was written`;
    return new ConclaveError('NOT_HELD', text, { key: this.key });
  }
}

/** What came of a guarded transaction. */
interface Insisted {
  readonly result: TxnResult;
  /** An earlier copy of it may have been applied. */
  readonly repeated: boolean;
}

/** Runs a guarded transaction until its answer has come or the session has ended. */
async function insist(session: Session, key: string, spec: TxnSpec): Promise<Insisted> {
  const { signal, client } = session;
  let unsure = false;
  const onRepeat = (): void => void (unsure = true);
  for (let attempt = 0; ; attempt++) {
    let sent = false;
    try {
      session.throwIfEnded();
      sent = true;
      const result = await client.kv.txn(spec, { idempotent: true, onRepeat, signal });
      return { repeated: unsure, result };
    } catch (error) {
      if (hasCode(error, 'LEASE_NOT_FOUND')) session.leaseIsGone();
      unsure ||= hasCode(error, 'UNKNOWN_OUTCOME') || (sent && !session.alive && error === signal.reason);
      if (!session.alive) throw ended(session, key, unsure);
      // What etcd refuses now it may have applied before: the lane cannot go on until that is known.
      if (!unsure && !isTransient(error)) throw error;
    }
    await sleep(client.clock, backoffMs(attempt, { baseMs: 20, maxMs: 500 }), signal).catch(() => undefined);
  }
}

function ended(session: Session, key: string, unsure: boolean): unknown {
  const { reason } = session;
  if (!unsure) return reason;
  const text = `${key} was gone, or its session had ended, when an answer was lost: the request may or may not have been applied`;
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause: reason, key });
}
