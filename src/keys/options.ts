/** What callers of the KeysAPI may say, and what they get. */
import {
  checkBoolean,
  checkInt64,
  checkLimits,
  checkOptions,
  checkTtlSeconds,
  checkWellFormed,
  shown,
} from '../util/validate.js';
import type { KeysAction, KeysNode } from './node.js';

/** What a call answers with, and what a watcher brings. */
export interface KeysResponse {
  readonly action: KeysAction;
  readonly node: KeysNode;
  /** What was there before; undefined for `get`, for what is new, and in an event whose past has been compacted. */
  readonly prevNode: KeysNode | undefined;
  /** The store's index, which is etcd's revision, when it answered. */
  readonly index: bigint;
}

/** The limits of a call; `timeoutMs` is that of each of its requests. */
export interface KeysCallOptions {
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Options of `get`. */
export interface KeysGetOptions extends KeysCallOptions {
  /** All that is below a directory, not only what is in it. @default false */
  readonly recursive?: boolean | undefined;
  /** By key, ascending, as every answer is here anyway; for code that asks for it. @default false */
  readonly sorted?: boolean | undefined;
  /** With false, the member answers alone and may be behind. v2's own default was false. @default true */
  readonly quorum?: boolean | undefined;
}

/** Options of `create`. */
export interface KeysCreateOptions extends KeysCallOptions {
  /** Seconds to live, whole, at least 1; etcd gives at least 2 with its own defaults. @default for ever */
  readonly ttl?: number | undefined;
  /** Make a directory; no value may be given then. @default false */
  readonly dir?: boolean | undefined;
}

/** Options of `update`. */
export interface KeysUpdateOptions extends KeysCreateOptions {
  /** Only if this is the file's value. */
  readonly prevValue?: string | undefined;
  /** Only if this is the file's modifiedIndex. */
  readonly prevIndex?: bigint | undefined;
  /** Keep the value, give it the `ttl`, and wake no watcher. No value may be given. @default false */
  readonly refresh?: boolean | undefined;
}

/** Options of `set`. */
export interface KeysSetOptions extends KeysUpdateOptions {
  /** true: only if it exists (then it is an update); false: only if it does not (then it is a create). */
  readonly prevExist?: boolean | undefined;
}

/** Options of `delete`. */
export interface KeysDeleteOptions extends KeysCallOptions {
  /** Delete a directory with all that is in it. @default false */
  readonly recursive?: boolean | undefined;
  /** Delete a directory, if nothing is in it. @default false */
  readonly dir?: boolean | undefined;
  /** Only if this is the file's value. */
  readonly prevValue?: string | undefined;
  /** Only if this is the file's modifiedIndex. */
  readonly prevIndex?: bigint | undefined;
}

/** Options of `watcher`. */
export interface KeysWatcherOptions {
  /** Begin with the first change after this index. @default with what comes from now on */
  readonly afterIndex?: bigint | undefined;
  /** Also what changes below the key. @default false */
  readonly recursive?: boolean | undefined;
  /** Ends the watcher: `next()` rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

const CALL = ['timeoutMs', 'signal'] as const;
const CREATE = ['ttl', 'dir', ...CALL] as const;
const UPDATE = ['prevValue', 'prevIndex', 'refresh', ...CREATE] as const;

/** The options that each call takes. */
export const KNOWN = {
  create: CREATE,
  createInOrder: ['ttl', ...CALL],
  delete: ['recursive', 'dir', 'prevValue', 'prevIndex', ...CALL],
  get: ['recursive', 'sorted', 'quorum', ...CALL],
  set: ['prevExist', ...UPDATE],
  update: UPDATE,
  watcher: ['afterIndex', 'recursive', 'signal'],
} as const;

const FLAGS = ['recursive', 'sorted', 'quorum', 'dir', 'refresh', 'prevExist'] as const;

/** Refuses what is misspelt, of the wrong type or contradicts itself, before any request. */
export function checkKeysOptions(
  options: KeysGetOptions & KeysSetOptions & KeysDeleteOptions & KeysWatcherOptions,
  call: keyof typeof KNOWN,
): void {
  checkOptions(options, KNOWN[call], `keys.${call}`);
  checkLimits(options);
  for (const flag of FLAGS) if (options[flag] !== undefined) checkBoolean(options[flag], flag);
  const { afterIndex, prevExist, prevIndex, prevValue, refresh, ttl } = options;
  if (ttl !== undefined) checkTtlSeconds(ttl, 'ttl');
  if (prevIndex !== undefined) checkInt64(prevIndex, 'prevIndex', 1n);
  if (afterIndex !== undefined) checkInt64(afterIndex, 'afterIndex', 0n);
  if (prevValue !== undefined && (typeof prevValue !== 'string' || prevValue === ''))
    throw new TypeError(`prevValue must be a string that is not empty, not ${shown(prevValue)}`);
  if (refresh === true && ttl === undefined) throw new TypeError('refresh needs a ttl, in seconds');
  if (prevExist === false && (prevIndex !== undefined || prevValue !== undefined || refresh === true))
    throw new TypeError('prevExist: false leaves nothing to compare or refresh: leave out the other options');
}

/** The value to write; only where neither a directory is made nor the old value kept. */
export function checkValue(value: string | undefined, { dir, refresh }: KeysUpdateOptions): string {
  if (value === undefined) return '';
  if (typeof value !== 'string') throw new TypeError(`value must be a string, not ${shown(value)}`);
  if (dir === true || refresh === true)
    throw new TypeError(`no value may be given with ${dir === true ? 'dir' : 'refresh'}`);
  checkWellFormed(value, 'value');
  return value;
}
