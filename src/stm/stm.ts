/**
 * Software transactional memory: a function that reads and writes keys as if it were alone. It runs on reads that fit
 * together; its writes are sent at the end in one transaction that commits only if what it stands on is unchanged;
 * otherwise it runs again.
 *
 * Keys: the caller's own; and `conclave/stm/<id>` (records.ts), by which a commit whose answer was lost is found out.
 * Invariant: a function's writes are applied once, all of them, or never; what it returns belongs to the attempt that was.
 *
 * Not guaranteed: that the function runs once: it must have no effects but those through `tx`. That it is fair: a long
 * function may lose against short ones until its attempts run out. In the two weaker levels, what their names leave open.
 */
import { ConclaveError } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { encodeKey } from '../etcd/kv/key-range.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Bytes } from '../util/bytes.js';
import {
  checkChoice,
  checkCount,
  checkInstance,
  checkLimits,
  checkOptions,
  shown,
} from '../util/validate.js';
import { commit, type CommitTerms, type Outcome } from './commit.js';
import { recordsOf } from './records.js';
import { Transaction } from './transaction.js';
import type { Isolation, StmTransaction } from './types.js';

/** How a transaction runs. */
export interface StmOptions {
  /** How much it is kept apart from others. @default 'serializableSnapshot' */
  readonly isolation?: Isolation | undefined;
  /** How often the function may run before `CONFLICT`. @default 100 */
  readonly maxAttempts?: number | undefined;
  /** Gives up: rejects with the signal's reason. If the commit was under way, it may have been applied. */
  readonly signal?: AbortSignal | undefined;
  /** Keys that the function is going to read: fetched together before it runs. @default none */
  readonly prefetch?: readonly Bytes[] | undefined;
  /**
   * What the keys of commit records begin with; the user must be allowed to write there. `false`: no records; a commit
   * whose answer is lost then rejects with `UNKNOWN_OUTCOME`. @default 'conclave/stm/'
   */
  readonly records?: string | false | undefined;
  /** The cluster's `--max-txn-ops`. @default 128 */
  readonly maxTxnOps?: number | undefined;
}

/** What became of a transaction. */
export interface StmResult<T> {
  /** What the function returned in the attempt that was committed. */
  readonly result: T;
  /** The revision of its writes; without writes, the revision of its reads (0n in `readCommitted`, or if it read nothing). */
  readonly revision: bigint;
  /** How often the function ran. */
  readonly attempts: number;
}

const LEVELS = ['serializableSnapshot', 'serializable', 'repeatableReads', 'readCommitted'] as const;
const OPTIONS = ['isolation', 'maxAttempts', 'signal', 'prefetch', 'records', 'maxTxnOps'] as const;
const BACKOFF = { baseMs: 2, maxMs: 200 } as const;

/**
 * Runs `work` until it commits. Resolves with what it returned and the commit's revision. Rejects with what `work` threw,
 * and then nothing was written; with `CONFLICT` when the attempts ran out, `TOO_MANY_OPS` when it read or wrote more than
 * fits into one transaction, `UNAVAILABLE` when etcd could not be asked before the commit, and `UNKNOWN_OUTCOME` when the
 * commit's answer was lost and for 15 s nobody could tell what came of it: it was applied once or not at all. Calling it again is another transaction.
 *
 * @example
 * const { result } = await stm(client, async (tx) => {
 *   const seats = Number((await tx.get('seats'))?.string() ?? 0);
 *   if (seats > 0) tx.put('seats', String(seats - 1));
 *   return seats > 0;
 * });
 */
export async function stm<T>(
  client: Client,
  work: (tx: StmTransaction) => T | Promise<T>,
  options: StmOptions = {},
): Promise<StmResult<T>> {
  if (typeof work !== 'function') throw new TypeError(`stm's work must be a function, not ${shown(work)}`);
  const { isolation, maxAttempts, prefetch, terms } = settings(client, options);
  const { signal } = options;
  const pinned = isolation === 'serializableSnapshot' || isolation === 'serializable';
  let lost: (Outcome & { readonly is: 'conflict' }) | undefined;
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const tx = new Transaction(client, { maxOps: terms.maxOps, pinned, signal });
    // The second attempt begins at once, with what the first one found in its way; the others wait, and read anew.
    if (attempt === 2 && lost !== undefined) tx.prefill(lost.fresh, lost.revision);
    else if (attempt > 1) await sleep(client.clock, backoffMs(attempt - 2, BACKOFF), signal);
    signal?.throwIfAborted();
    const done = await runOnce(tx, work, prefetch);
    signal?.throwIfAborted();
    if (done === undefined) continue;
    const outcome = await commit(tx, terms);
    if (outcome.is === 'committed')
      return { attempts: attempt, result: done.result, revision: outcome.revision };
    lost = { ...outcome, key: outcome.key ?? lost?.key };
  }
  throw conflict(maxAttempts, lost?.key);
}

/** Runs the function. Undefined: what it stood on cannot be read any more, whatever it made of that. */
async function runOnce<T>(
  tx: Transaction,
  work: (tx: StmTransaction) => T | Promise<T>,
  prefetch: readonly Bytes[],
): Promise<{ readonly result: T } | undefined> {
  try {
    if (prefetch.length > 0) await tx.get(prefetch);
    const result = await work(tx);
    return tx.unreadable === undefined ? { result } : undefined;
  } catch (error) {
    if (tx.unreadable === undefined) throw error;
    return undefined;
  } finally {
    tx.end();
  }
}

function settings(
  client: Client,
  options: StmOptions,
): { isolation: Isolation; maxAttempts: number; prefetch: readonly Bytes[]; terms: CommitTerms } {
  checkInstance(client, { Client }, "stm's client");
  checkOptions(options, OPTIONS, 'stm');
  checkLimits({ signal: options.signal });
  const { isolation = 'serializableSnapshot', prefetch = [], records = 'conclave/stm/' } = options;
  const { maxAttempts = 100, maxTxnOps = 128 } = options;
  checkChoice(isolation, LEVELS, 'isolation');
  if (records !== false && (typeof records !== 'string' || records === '')) {
    throw new TypeError(`records must be a prefix of keys, or false, not ${shown(records)}`);
  }
  if (records !== false) encodeKey(records);
  checkKeys(prefetch);
  const maxOps = checkCount(maxTxnOps, 'maxTxnOps', 2);
  return {
    isolation,
    maxAttempts: checkCount(maxAttempts, 'maxAttempts', 1),
    prefetch,
    terms: {
      client,
      isolation,
      maxOps,
      records: records === false ? undefined : recordsOf(client, records),
      signal: options.signal,
    },
  };
}

function checkKeys(prefetch: unknown): void {
  if (!Array.isArray(prefetch))
    throw new TypeError(`prefetch must be an array of keys, not ${shown(prefetch)}`);
  const keys: readonly unknown[] = prefetch;
  for (const [at, key] of keys.entries()) {
    try {
      encodeKey(key as Bytes);
    } catch (error) {
      throw new TypeError(`prefetch[${String(at)}]: ${(error as TypeError).message}`, { cause: error });
    }
  }
}

function conflict(attempts: number, key: string | undefined): ConclaveError {
  const where = key === undefined ? '' : `; last it was ${JSON.stringify(key)} that others had changed`;
  const text = `stm: gave up after ${String(attempts)} attempts, each overtaken by other writers${where}; nothing was written`;
  return new ConclaveError('CONFLICT', text, { key });
}
