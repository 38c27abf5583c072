import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import type { Compare } from '../etcd/compare.js';
import type { TxnResult } from '../etcd/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Claim } from './claim.js';

/** What a commit is about. */
export interface Commit {
  readonly session: Session;
  readonly claim: Claim;
  /** Hold only while the job is ours. */
  readonly guard: readonly Compare[];
  /** Our worker's key, which `guard` needs to be the same. */
  readonly worker: { readonly key: string; readonly joinedAt: bigint };
  /** The key of the job's data, which goes only with the job. */
  readonly body: string;
  /** Removes the job. */
  readonly ending: readonly Op[];
}

/**
 * Does `spec.then` and `ending`, which removes the job, in one transaction guarded by the claim. Undefined: the claim did
 * not hold, and nothing was done.
 *
 * Applied once at most, since it removes what it is guarded by. When the answer is lost, it is sent again. If the guard
 * then fails, our worker's key and the job's data tell: as long as the key is there, nobody else can have ended the claim
 * by the rules, and only handing it in removes the data. Whether an `else` that writes has run cannot be seen.
 */
export async function commitJob(commit: Commit, spec: TxnSpec): Promise<TxnResult | undefined> {
  const { session, guard, worker, body, ending } = commit;
  const done = [...(spec.then ?? []), ...ending];
  const plain = (spec.if ?? []).length === 0;
  const steps = plain ? done : [op.txn({ ...spec, then: done })];
  const look = [op.get(worker.key, { keysOnly: true }), op.get(body, { keysOnly: true })];
  let lost: unknown;
  for (let attempt = 0; ; attempt++) {
    try {
      // What `else` writes must not be written twice, so then it is only looked.
      const again = lost === undefined || !writes(spec.else);
      const request = { else: look, if: guard, then: again ? steps : [] };
      const result = await session.client.kv.txn(request, { signal: session.signal });
      if (result.succeeded && !again) throw lost;
      if (result.succeeded) return withoutEnding(plain ? result : unwrapped(result), spec);
      if (lost === undefined) return undefined;
      return applied(commit, result, lost)
        ? { responses: [], revision: result.revision, succeeded: true }
        : undefined;
    } catch (error) {
      if (!session.alive) throw lost ?? unknownOutcome(session, error);
      if (error === lost) throw lost;
      if (hasCode(error, 'UNKNOWN_OUTCOME')) lost = error;
      else if (!isTransient(error)) throw error;
    }
    await sleep(session.client.clock, backoffMs(attempt, { baseMs: 20, maxMs: 500 }), session.signal).catch(
      () => undefined,
    );
  }
}

/** Whether a first try was applied, by what a second one read instead. Throws `lost` when that cannot be told. */
function applied({ claim, worker }: Commit, { responses }: TxnResult, lost: unknown): boolean {
  const [key, body] = responses.map((response) => (response.type === 'get' ? response.kvs[0] : undefined));
  // Data that is younger than the claim is that of another job, pushed with the same id since.
  if (body !== undefined && body.createRevision < claim.token) return false;
  if (key?.createRevision !== worker.joinedAt) throw lost;
  return true;
}

function writes(steps: readonly Op[] = []): boolean {
  return steps.some((step) => step.wire.requestRange === undefined);
}

/** The answers to the caller's own steps. */
function withoutEnding(result: TxnResult, spec: TxnSpec): TxnResult {
  if (!result.succeeded) return result;
  return { ...result, responses: result.responses.slice(0, (spec.then ?? []).length) };
}

function unwrapped(result: TxnResult): TxnResult {
  const [inner] = result.responses;
  if (inner?.type !== 'txn') return result;
  return { responses: inner.responses, revision: result.revision, succeeded: inner.succeeded };
}

function unknownOutcome(session: Session, cause: unknown): unknown {
  if (hasCode(cause) && cause !== session.signal.reason) return cause;
  const text = 'commit: the session ended while the answer was awaited: it may or may not have been done';
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause });
}
