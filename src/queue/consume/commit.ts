import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { isTransient } from '../../errors/transient.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import type { TxnResult } from '../../etcd/kv/kv.js';
import { type Op, op, type TxnSpec } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { encodeRecord } from '../store/record.js';
import type { Claim } from './outcome.js';

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
  /** The entry of the claim, as we know it: a commit compares its mod revision. Kept for the claim's next commits. */
  readonly entry: { modRevision: bigint };
}

/**
 * Does `spec.then` and `ending`, which removes the job, in one transaction guarded by the claim. Undefined: the claim did
 * not hold, and nothing was done.
 *
 * Applied once at most, since it removes what it is guarded by. When the answer is lost, it is sent again. If the guard
 * then fails, our worker's key and the job's data tell: as long as the key is there, nobody else can have ended the claim
 * by the rules, and only handing it in removes the data, or puts it again where the job is kept. Whether an `else` that writes has run cannot be seen.
 *
 * A second try that is declined writes the claim's entry anew, so a copy of the first, which compares its mod revision, can
 * do nothing any more: who is told that a commit was declined need not fear that it is done later.
 */
export async function commitJob(commit: Commit, spec: TxnSpec): Promise<TxnResult | undefined> {
  const { session, claim, entry, guard, worker, body, ending } = commit;
  const done = [...(spec.then ?? []), ...ending];
  const plain = (spec.if ?? []).length === 0;
  const renewed = op.put(claim.key, encodeRecord(claim.record));
  const look = [worker.key, body, claim.key].map((key) => op.get(key, { keysOnly: true }));
  let lost: unknown;
  for (let attempt = 0; ; attempt++) {
    try {
      // What `else` writes must not be written twice, so then it is only looked.
      const again = lost === undefined || !writes(spec.else);
      const otherwise = [...(spec.else ?? []), ...(lost === undefined ? [] : [renewed])];
      const steps = plain ? done : [op.txn({ ...spec, then: done, else: otherwise })];
      const asKnown = compare.modRevision(claim.key, '=', entry.modRevision);
      const request = { else: look, if: [...guard, asKnown], then: again ? steps : [] };
      const result = await session.client.kv.txn(request, { signal: session.signal });
      if (result.succeeded && !again) throw lost;
      if (result.succeeded) {
        const own = plain ? result : unwrapped(result);
        if (!own.succeeded && lost !== undefined) entry.modRevision = own.revision;
        return withoutEnding(own, spec);
      }
      if (isRenewed(commit, result)) continue;
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

/** Whether the claim is as it was, but for what one of our tries has written; that is known from now on. */
function isRenewed({ claim, entry }: Commit, { responses }: TxnResult): boolean {
  const found = responses[2]?.type === 'get' ? responses[2].kvs[0] : undefined;
  if (found?.createRevision !== claim.token || found.modRevision === entry.modRevision) return false;
  entry.modRevision = found.modRevision;
  return true;
}

/** Whether a first try was applied, by what a second one read instead. Throws `lost` when that cannot be told. */
function applied({ claim, worker }: Commit, { responses }: TxnResult, lost: unknown): boolean {
  const [key, body] = responses.map((response) => (response.type === 'get' ? response.kvs[0] : undefined));
  // Younger data is that of another job, pushed with the same id since. Of a job that is kept, the data was put once more.
  if (body !== undefined && body.createRevision <= claim.record.bornAt && body.version === 1n) return false;
  if (key?.createRevision !== worker.joinedAt) throw lost;
  return true;
}

function writes(steps: readonly Op[] = []): boolean {
  return steps.some((step) => step.wire.requestRange === undefined);
}

/** The answers to the caller's own steps. */
function withoutEnding(result: TxnResult, spec: TxnSpec): TxnResult {
  const own = (result.succeeded ? spec.then : spec.else) ?? [];
  return { ...result, responses: result.responses.slice(0, own.length) };
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
