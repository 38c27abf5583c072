/**
 * Writes transactions of one session, one after the other, each applied exactly once, even if its answer is lost.
 *
 * Key: one, bound to the session's lease. Each transaction compares its mod revision and writes it, so of two copies of
 * a transaction only one can be applied, and none once a later one was, or once the lease is gone. A copy that comes too
 * late reads the key instead and so learns from its serial number that the first copy was applied.
 *
 * Only a copy of the first request, which makes the key, can be applied when the key is gone: it makes a key that nobody
 * uses and that keeps nobody from anything. It is removed as the session's floor rises past it (src/session/floor.ts).
 */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { isOutOfSpace, isTransient } from '../../errors/transient.js';
import { compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import type { OpResult, TxnResult } from '../../etcd/kv/kv.js';
import { type Op, op, type TxnSpec } from '../../etcd/kv/op.js';
import type { AttemptNumber } from '../../session/floor.js';
import type { Session } from '../../session/session.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';

/** What came of a transaction. `responses` are those of the steps that were given, in their order. */
export type Outcome =
  | { readonly is: 'applied'; readonly revision: bigint; readonly responses: readonly OpResult[] }
  /** It was applied, at `revision`, and its answer is lost. */
  | { readonly is: 'appliedUnseen'; readonly revision: bigint }
  /** Its own conditions did not hold; `responses` are those of `else`. */
  | { readonly is: 'refused'; readonly revision: bigint; readonly responses: readonly OpResult[] };

/** As an outcome, of what cannot be refused. */
export type Applied = Exclude<Outcome, { readonly is: 'refused' }>;

/** How long etcd may refuse what is asked again, for reasons that do not pass by themselves, until that is the answer. */
const REFUSED_MS = 5000;

export class FencedWriter {
  readonly key: string;
  readonly #session: Session;
  /** Of the latest transaction. */
  #serial = 0;
  #modRevision: bigint;
  /** Transactions of which nobody knows whether they will have been applied. */
  readonly #givenUp = new Set<string>();
  /** Of the request that made the key. */
  readonly #made: AttemptNumber;

  private constructor(session: Session, key: string, made: { modRevision: bigint; number: AttemptNumber }) {
    this.#session = session;
    this.key = key;
    this.#modRevision = made.modRevision;
    this.#made = made.number;
  }

  /** Makes the writer's key. It must be new: nobody else has ever used it. */
  static async open(session: Session, key: string): Promise<FencedWriter> {
    const number = session.floor.next();
    const making = {
      if: [compare.missing(key), ...number.guards],
      then: [op.put(key, '0', { leaseId: session.leaseId })],
      else: [op.get(key)],
    };
    const settled = await untilSettled(session, key, making, (kv) => kv !== undefined)
      .catch((error: unknown) => {
        session.floor.end(number.number, () => ({ removals: [removalOf(key)] }));
        throw error;
      })
      .finally(number.settled);
    if ('seen' in settled)
      return new FencedWriter(session, key, { modRevision: settled.seen.modRevision, number });
    const { result } = settled;
    const modRevision = result.succeeded ? result.revision : foundBy(result)?.modRevision;
    if (modRevision !== undefined) return new FencedWriter(session, key, { modRevision, number });
    await number.isIntact(session.signal);
    return FencedWriter.open(session, key);
  }

  /**
   * Runs a transaction; the previous one must be settled. It goes on trying for as long as the session lives, while
   * nobody answers or etcd cannot for the time being. Rejects with `SESSION_LOST` or `CLOSED` when the session ended and
   * nothing was applied, `NOT_HELD` when only the writer's key was removed from outside, with what etcd has against
   * the transaction when nothing was applied, and `UNKNOWN_OUTCOME` when any of that happened and nobody knows. Another
   * one may be run then.
   */
  async run(spec: TxnSpec): Promise<Outcome> {
    this.#serial += 1;
    const serial = String(this.#serial);
    const { leaseId } = this.#session;
    let repeated = false;
    for (;;) {
      const settled = await untilSettled(
        this.#session,
        this.key,
        {
          if: [compare.modRevision(this.key, '=', this.#modRevision), ...(spec.if ?? [])],
          then: [op.put(this.key, serial, { leaseId }), ...(spec.then ?? [])],
          else: [op.get(this.key), ...(spec.else ?? [])],
        },
        (kv) => kv && kv.string() === serial,
      ).catch((error: unknown) => {
        if (hasCode(error, 'UNKNOWN_OUTCOME')) this.#givenUp.add(serial);
        throw error;
      });
      if ('seen' in settled)
        return this.#applied({ is: 'appliedUnseen', revision: settled.seen.modRevision });
      const { result } = settled;
      const { revision } = result;
      repeated ||= settled.repeated;
      const responses = result.responses.slice(1);
      if (result.succeeded) return this.#applied({ is: 'applied', responses, revision });
      const kv = foundBy(result);
      if (kv === undefined) throw await this.#gone(repeated);
      if (kv.modRevision === this.#modRevision) return { is: 'refused', responses, revision };
      if (kv.string() === serial) return this.#applied({ is: 'appliedUnseen', revision: kv.modRevision });
      // Of ours nothing can have been applied, if it was one that was given up.
      if (!this.#isOfGivenUp(kv)) throw await this.#gone(repeated);
    }
  }

  /** Removes the key, and does `more` in the same transaction. False, and nothing is done, when it is gone already. */
  async close(more: readonly Op[] = []): Promise<boolean> {
    for (;;) {
      const { result } = await untilSettled(this.#session, this.key, {
        if: [compare.modRevision(this.key, '=', this.#modRevision)],
        then: [op.delete(this.key), ...more],
        else: [op.get(this.key)],
      });
      const kv = foundBy(result);
      if (kv !== undefined && this.#isOfGivenUp(kv)) continue;
      this.#session.floor.end(this.#made.number, () => ({ removals: [removalOf(this.key)] }));
      return result.succeeded;
    }
  }

  /** Whether the key shows that one which was given up has been applied after all; then we go on from there. */
  #isOfGivenUp(kv: KeyValue): boolean {
    if (!this.#givenUp.delete(kv.string())) return false;
    this.#modRevision = kv.modRevision;
    return true;
  }

  #applied(outcome: Outcome): Outcome {
    this.#modRevision = outcome.revision;
    this.#givenUp.clear();
    return outcome;
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
interface Settled {
  readonly result: TxnResult;
  /** An earlier copy of it may have been applied. */
  readonly repeated: boolean;
}

/** The key shows that it was applied. */
interface Seen {
  readonly seen: KeyValue;
}

/** Whether a transaction was applied, by what its writer's key holds; undefined: that cannot be seen. */
type Tells = (kv: KeyValue | undefined) => boolean | undefined;

/**
 * Runs a guarded transaction until its answer has come, or the session has ended. When etcd answers with an error that
 * leaves open whether it was applied, and would do so again, the key is asked.
 */
async function untilSettled(session: Session, key: string, spec: TxnSpec): Promise<Settled>;
async function untilSettled(
  session: Session,
  key: string,
  spec: TxnSpec,
  tells: Tells,
): Promise<Settled | Seen>;
async function untilSettled(
  session: Session,
  key: string,
  spec: TxnSpec,
  tells: Tells = () => undefined,
): Promise<Settled | Seen> {
  const { signal, client } = session;
  // Whether an answer is missing, so that a copy may be applied, now or later.
  let unsure = false;
  let refusedAt: number | undefined;
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
      const isAnswer = !isTransient(error);
      if (isAnswer && session.alive) {
        const found = await client.kv.get(key, { signal }).then(
          (kv) => ({ isApplied: tells(kv), kv }),
          () => undefined,
        );
        if (found?.kv !== undefined && found.isApplied === true) return { seen: found.kv };
        // It was answered, and has not been applied: nor will it be.
        if (found?.isApplied === false && !unsure) throw refusalOf(error);
      }
      unsure ||= hasCode(error, 'UNKNOWN_OUTCOME') || (sent && !session.alive && error === signal.reason);
      if (!session.alive) throw ended(session, key, unsure);
      if (!unsure && isAnswer) throw error;
      const now = client.clock.now();
      refusedAt = isAnswer ? (refusedAt ?? now) : undefined;
      if (refusedAt !== undefined && now - refusedAt >= REFUSED_MS) throw neverKnown(key, error);
    }
    await sleep(client.clock, backoffMs(attempt, { baseMs: 20, maxMs: 500 }), signal).catch(() => undefined);
  }
}

function removalOf(key: string): TxnSpec {
  return { if: [compare.exists(key)], then: [op.delete(key)] };
}

/** The error that says that nothing was written. */
function refusalOf(error: unknown): unknown {
  return hasCode(error, 'UNKNOWN_OUTCOME') && isOutOfSpace(error) ? error.cause : error;
}

function foundBy({ responses, succeeded }: TxnResult): KeyValue | undefined {
  const [own] = responses;
  return !succeeded && own?.type === 'get' ? own.kvs[0] : undefined;
}

function ended(session: Session, key: string, unsure: boolean): unknown {
  const { reason } = session;
  if (!unsure) return reason;
  const text = `${key} was gone, or its session had ended, when an answer was lost: the request may or may not have been applied`;
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause: reason, key });
}

function neverKnown(key: string, cause: unknown): ConclaveError {
  const text = `${key}: an answer was lost, and etcd refuses the request now: it may or may not have been applied`;
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause, key });
}
