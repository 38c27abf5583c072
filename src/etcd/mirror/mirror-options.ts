/** What a mirror is made with, and what it tells. */
import { type Bytes, toText } from '../../util/bytes.js';
import { SESSION_KEYS } from '../../util/key-space.js';
import { checkCount, checkInstance, checkOptions } from '../../util/validate.js';
import { encodeBytes, encodeKey } from '../kv/key-range.js';
import { Kv } from '../kv/kv.js';
import type { CallOptions } from '../transport/call.js';

/** Where a mirror copies to: what it needs of a `Client`. */
export interface MirrorDestination {
  readonly kv: Kv;
  /** Aborts when it is closed. */
  readonly closed: AbortSignal;
}

/** Options of a mirror. */
export interface MirrorOptions {
  /** The client of the cluster, or namespace, that is copied to. */
  readonly to: MirrorDestination;
  /** What the keys begin with there, in the place of the source's prefix. @default the same */
  readonly prefix?: Bytes | undefined;
  /** The key of the target that says how far the mirror has come. @default `.conclave/mirror/` and the target's prefix */
  readonly progressKey?: Bytes | undefined;
  /** The target's `--max-txn-ops`. A revision that has more changes is written in several transactions. @default 128 */
  readonly maxTxnOps?: number | undefined;
}

/** How long a mirror runs. */
export interface MirrorRunOptions {
  /** Stops it: `run` rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How far a mirror has come, as the target has it. */
export interface MirrorProgress {
  /** `copying`: the target is partly older, or empty. `following`: it is what the source was at `revision`. */
  readonly phase: 'copying' | 'following';
  /** The revision of the source. */
  readonly revision: bigint;
  /** Part of the revision that follows is there already: it has more changes than one transaction takes. */
  readonly isWithinRevision: boolean;
}

/** Options of `verify`. */
export interface MirrorVerifyOptions extends CallOptions {
  /** So many differences are listed; all are counted. @default 100 */
  readonly limit?: number | undefined;
}

/** A key that is not the same on both sides. */
export interface MirrorDifference {
  /** The source's key, exactly. */
  readonly keyBytes: Buffer;
  /** The source's key as text. */
  readonly key: string;
  /** `missing`: only the source has it. `extra`: only the target has. `different`: its values differ. */
  readonly is: 'missing' | 'extra' | 'different';
}

/** What `verify` found. */
export interface MirrorReport {
  /** Whether both sides have the same keys and values. */
  readonly isSame: boolean;
  /** The revision of the source. */
  readonly revision: bigint;
  /** The revision of the target. */
  readonly targetRevision: bigint;
  /** How many keys the source has. */
  readonly keys: number;
  /** How many keys differ. */
  readonly different: number;
  /** The first of them, in the order of the keys. */
  readonly differences: readonly MirrorDifference[];
}

/** A mirror's options, checked. */
export interface MirrorTerms {
  readonly to: MirrorDestination;
  readonly sourcePrefix: Uint8Array;
  readonly prefix: Uint8Array;
  readonly progressKey: Uint8Array;
  readonly maxTxnOps: number;
}

/** Checks them. Throws TypeError and RangeError. */
export function mirrorTerms(range: { readonly prefix: Bytes }, options: MirrorOptions): MirrorTerms {
  checkOptions(range, ['prefix'], 'mirror');
  checkOptions(options, ['to', 'prefix', 'progressKey', 'maxTxnOps'], 'mirror');
  const { to } = options;
  const given: unknown = to;
  if (typeof given !== 'object' || given === null) throw new TypeError('mirror: to must be a Client');
  checkInstance(to.kv, { Kv }, "the kv of a mirror's to");
  // The caller's bytes may be others by the time they are used.
  const sourcePrefix = Uint8Array.from(encodeBytes(range.prefix, 'prefix'));
  const prefix = Uint8Array.from(encodeBytes(options.prefix ?? sourcePrefix, 'prefix'));
  const { progressKey = Buffer.concat([Buffer.from(`${SESSION_KEYS}mirror/`), prefix]) } = options;
  return {
    maxTxnOps: checkCount(options.maxTxnOps ?? 128, 'maxTxnOps', 2),
    prefix,
    progressKey: Uint8Array.from(encodeKey(progressKey)),
    sourcePrefix,
    to,
  };
}

/** Within one keyspace: throws RangeError where a mirror would copy what it has copied, for ever. */
export function checkApart({ prefix, progressKey, sourcePrefix }: MirrorTerms): void {
  if (startsWith(prefix, sourcePrefix) || startsWith(sourcePrefix, prefix)) {
    const text = `from prefix ${JSON.stringify(toText(sourcePrefix))} to prefix ${JSON.stringify(toText(prefix))}`;
    throw new RangeError(`a mirror within one cluster must not go ${text}: one contains the other`);
  }
  if (startsWith(progressKey, sourcePrefix))
    throw new RangeError(`progressKey must not be among the keys that are copied: ${toText(progressKey)}`);
}

function startsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  return key.length >= prefix.length && Buffer.compare(key.subarray(0, prefix.length), prefix) === 0;
}
