/**
 * The shape of the platform's Web Locks API, across machines: `request`, and `query`.
 *
 * Keys: those of an `RWLock` named `prefix/name`; an exclusive lock is its writer, a shared one a reader.
 * Invariant: that of `RWLock`; requests are granted in the order of their arrival.
 *
 * `steal` is not offered: another machine's holder cannot be made to stop at once, so a stolen lock would have two
 * holders. To take a lock from a holder that hangs, end its session (revoke the lease that `query` shows): it is told,
 * and its guarded writes fail.
 * Not guaranteed: that a callback which ignores `lock.signal` stops when its lock is lost.
 */
import type { CallOptions } from '../etcd/transport/call.js';
import type { Compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { TxnResult } from '../etcd/kv/kv.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { TxnSpec } from '../etcd/kv/op.js';
import { ANY_SESSION, type AnySession } from '../session/sessions.js';
import { type LineEntry, reportLine } from '../ticket/inspect.js';
import { notesOf } from '../ticket/take.js';
import { WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { checkPlainName } from '../util/key-space.js';
import { checkBoolean, checkFunction, checkInstance, checkOptions } from '../util/validate.js';
import { runUnder } from './admission.js';
import type { ReadLock, WriteLock } from './rw-holds.js';
import { rwInspection } from './rw-inspect.js';
import { RWLock } from './rw-lock.js';
import { upgradeKeyOf } from './rw-policy.js';

/** How a lock is held, in the platform's words. */
export type WebLockMode = 'exclusive' | 'shared';

/** Options of a request. */
export interface LockRequestOptions extends WaitOptions {
  /** Held alone, or together with others that share it. @default 'exclusive' */
  readonly mode?: WebLockMode | undefined;
  /** Calls back with null, and leaves nothing behind, when the lock cannot be had at once. @default false */
  readonly ifAvailable?: boolean | undefined;
}

/** A lock that was granted, for as long as the callback runs. */
export interface WebLock {
  readonly name: string;
  readonly mode: WebLockMode;
  readonly fencingToken: bigint;
  /** Aborts when the lock is lost, before anyone else can have it, and when it is released. */
  readonly signal: AbortSignal;
  /** Whether it is still held, by a synchronous look at the clock. */
  readonly held: boolean;
  /** The compares that hold only while this very lock is held. */
  guard(): Compare[];
  /** Runs a transaction that commits only while this very lock is held; else rejects with `NOT_HELD`. */
  txn(spec: TxnSpec, options?: CallOptions): Promise<TxnResult>;
}

/** A lock that is held or asked for. */
export interface LockInfo extends LineEntry {
  readonly name: string;
  readonly mode: WebLockMode;
  /** Whose it is: the session's lease, in hex. */
  readonly clientId: string;
}

/** All locks of a manager's prefix, as of one revision. */
export interface LockManagerSnapshot {
  readonly held: readonly LockInfo[];
  /** For each name in the order in which they will be granted. */
  readonly pending: readonly LockInfo[];
  readonly revision: bigint;
}

/** Options of a manager. */
export interface LockManagerOptions {
  /** Below which the locks' keys are, so that two applications do not meet. @default 'locks' */
  readonly prefix?: string | undefined;
}

/** What runs while a lock is held. */
export type LockCallback<L, T> = (lock: L) => T | Promise<T>;

/**
 * @example
 * const locks = new LockManager(session);
 * const total = await locks.request('report', { mode: 'shared' }, async (lock) => readReport(lock.signal));
 */
export class LockManager {
  readonly prefix: string;
  readonly #source: AnySession;

  /** Makes nothing in etcd. Throws TypeError for a bad prefix. */
  constructor(session: AnySession, options: LockManagerOptions = {}) {
    checkInstance(session, ANY_SESSION, "a lock manager's session");
    checkOptions(options, ['prefix'], 'LockManager');
    const { prefix = 'locks' } = options;
    this.prefix = checkPlainName(prefix, "a lock manager's prefix");
    this.#source = session;
  }

  /**
   * Calls back once the lock is granted, holds it until what the callback returned has settled, and passes that on. With
   * `ifAvailable` the callback gets null when the lock cannot be had at once. `signal` and `timeoutMs` end the wait, not
   * the callback. Rejects with what the callback threw, with the reason of the loss when the lock was lost before it was
   * done, and as `RWLock.writeLock` does while it waits: then the callback is never called and nothing is left in etcd.
   */
  request<T>(name: string, callback: LockCallback<WebLock, T>): Promise<T>;
  request<T>(
    name: string,
    options: LockRequestOptions & { readonly ifAvailable?: false | undefined },
    callback: LockCallback<WebLock, T>,
  ): Promise<T>;
  request<T>(
    name: string,
    options: LockRequestOptions,
    callback: LockCallback<WebLock | null, T>,
  ): Promise<T>;
  async request<T>(
    name: string,
    first: LockRequestOptions | LockCallback<WebLock, T>,
    second?: LockCallback<WebLock, T>,
  ): Promise<T> {
    const options = typeof first === 'function' ? {} : first;
    const call = checkFunction(typeof first === 'function' ? first : second, "a request's callback");
    const { mode, ifAvailable, ...limits } = checkRequest(name, options);
    const lock = new RWLock(this.#source, `${this.prefix}/${name}`);
    const hold = ifAvailable ? await tryHold(lock, mode, limits) : await takeHold(lock, mode, limits);
    // Undefined only with `ifAvailable`, whose overload asks for a callback that takes null.
    if (hold === undefined) return await (call as LockCallback<WebLock | null, T>)(null);
    return runUnder(
      () => Promise.resolve(hold),
      (held) => call(webLock(name, mode, held)),
      (held) => held.unlock(),
    );
  }

  /** All locks below the prefix that are held or asked for, by anyone. One linearizable read. */
  async query(options: CallOptions = {}): Promise<LockManagerSnapshot> {
    checkOptions(options, WAIT_OPTIONS, 'query');
    const read = await this.#source.client.kv.range({ prefix: `${this.prefix}/` }, options);
    const held: LockInfo[] = [];
    const pending: LockInfo[] = [];
    for (const [line, kvs] of byLine(read.kvs, this.prefix)) {
      const inspection = rwInspection(line);
      const name = line.slice(this.prefix.length + 1);
      const { holders, waiters } = reportLine({ kvs, revision: read.revision }, inspection);
      const info = ({ mode, ...entry }: (typeof holders)[number]): LockInfo => ({
        ...entry,
        clientId: leaseHex(entry.leaseId),
        mode: mode === 'read' ? 'shared' : 'exclusive',
        name,
      });
      held.push(...holders.map(info));
      pending.push(...waiters.map(info));
    }
    return { held, pending, revision: read.revision };
  }
}

interface CheckedRequest extends WaitOptions {
  readonly mode: WebLockMode;
  readonly ifAvailable: boolean;
}

function checkRequest(name: string, options: LockRequestOptions): CheckedRequest {
  checkPlainName(name, "a lock's name");
  if ('steal' in Object(options)) {
    throw new TypeError(
      'steal is not offered: a holder on another machine cannot be made to stop at once; revoke its lease instead',
    );
  }
  checkOptions(options, ['mode', 'ifAvailable', ...WAIT_OPTIONS], 'request');
  const { mode = 'exclusive', ifAvailable = false, signal, timeoutMs } = options;
  const known: readonly string[] = ['exclusive', 'shared'];
  if (!known.includes(mode))
    throw new TypeError(`mode must be 'exclusive' or 'shared', not ${JSON.stringify(mode)}`);
  return { ifAvailable: checkBoolean(ifAvailable, 'ifAvailable'), mode, signal, timeoutMs };
}

function tryHold(
  lock: RWLock,
  mode: WebLockMode,
  limits: WaitOptions,
): Promise<ReadLock | WriteLock | undefined> {
  return mode === 'shared' ? lock.tryReadLock(limits) : lock.tryWriteLock(limits);
}

function takeHold(lock: RWLock, mode: WebLockMode, limits: WaitOptions): Promise<ReadLock | WriteLock> {
  return mode === 'shared' ? lock.readLock(limits) : lock.writeLock(limits);
}

function webLock(name: string, mode: WebLockMode, hold: ReadLock | WriteLock): WebLock {
  return {
    fencingToken: hold.fencingToken,
    guard: () => hold.guard(),
    get held() {
      return hold.held;
    },
    mode,
    name,
    signal: hold.signal,
    txn: (spec, options) => hold.txn(spec, options),
  };
}

const UPGRADE = upgradeKeyOf('');
const NOTES = notesOf('');

/** The keys below the prefix by the line that they stand in or lie beside; a lock's own name may contain slashes. */
function byLine(kvs: readonly KeyValue[], prefix: string): Map<string, KeyValue[]> {
  const lines = new Map<string, KeyValue[]>();
  for (const kv of kvs) {
    const { key } = kv;
    const line = key.slice(0, key.endsWith(UPGRADE) ? -UPGRADE.length : key.lastIndexOf('/'));
    // What an election says of its candidates is in no line.
    if (line.length <= prefix.length || key.includes(NOTES)) continue;
    const keys = lines.get(line) ?? [];
    lines.set(line, keys);
    keys.push(kv);
  }
  return lines;
}
