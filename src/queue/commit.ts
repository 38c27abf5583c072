import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Compare } from '../etcd/compare.js';
import type { TxnResult } from '../etcd/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { leaseLives } from './lane.js';

/**
 * Does `spec.then` and `ending`, which removes the job, in one transaction guarded by the claim. Undefined: the claim did
 * not hold, and nothing was done.
 *
 * Applied once at most, since it removes what it is guarded by. When the answer is lost, the guard tells: if it still
 * holds, the transaction was not applied, and is sent again; if it does not although the session lives, it was, because
 * nobody but us removes a claim of a living worker.
 */
export async function commitJob(
  session: Session,
  guard: readonly Compare[],
  spec: TxnSpec,
  ending: readonly Op[],
  body: string,
): Promise<TxnResult | undefined> {
  const done = [...(spec.then ?? []), ...ending];
  const plain = (spec.if ?? []).length === 0;
  const steps = plain ? done : [op.txn({ ...spec, then: done })];
  let lost: unknown;
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await session.client.kv.txn({ if: guard, then: steps }, { signal: session.signal });
      if (result.succeeded) return withoutEnding(plain ? result : unwrapped(result), spec);
      if (lost === undefined) return undefined;
      // The guard fails on a dead session, too; only a living one proves anything.
      if (!(await leaseLives(session))) throw lost;
      // Whatever else ends a claim leaves the job's body; only handing it in removes it.
      if ((await session.client.kv.get(body, { keysOnly: true })) !== undefined) return undefined;
      return { responses: [], revision: result.revision, succeeded: true };
    } catch (error) {
      if (!session.alive) throw lost ?? unknownOutcome(session, error);
      if (hasCode(error, 'UNKNOWN_OUTCOME')) lost = error;
      else if (!hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error;
      // Whether `else` has run cannot be seen, so it is not run again.
      if (lost !== undefined && (spec.else ?? []).length > 0) throw lost;
    }
    await sleep(session.client.clock, backoffMs(attempt, { baseMs: 20, maxMs: 500 }), session.signal).catch(
      () => undefined,
    );
  }
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
