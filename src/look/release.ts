/**
 * Taking a hold, or a place in line, from somebody: first a plan, which says what would be done, then the doing, which is refused
 * when what the plan has seen is not so any more.
 *
 * Not guaranteed: that who is taken the hold from stops. A hold of Conclave's aborts its signal as soon as it hears of it;
 * Go's clients and etcdctl notice only that their lease is gone, not that their key is.
 */
import type { Client } from '../etcd/client.js';
import { compare } from '../etcd/kv/compare.js';
import { op } from '../etcd/kv/op.js';
import { noteKeyOf } from '../ticket/take.js';
import { toText } from '../util/bytes.js';
import { leaseOf } from './lease-times.js';
import type { Kind, Party } from './names.js';
import { type Shown, showName } from './show.js';

/** What is to be taken. */
export interface ReleaseRequest {
  readonly name: string;
  /** Needed when the name is used for several things that somebody holds. */
  readonly kinds?: readonly Kind[] | undefined;
  /** The holder's key, when several hold. */
  readonly holder?: string | undefined;
  /** The key of one who waits, which is to leave the line; instead of a holder. */
  readonly waiter?: string | undefined;
  /** Revoke the lease, with all that is bound to it, instead of deleting the key. @default false */
  readonly lease?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What would be done. */
export interface ReleasePlan {
  /** The store's revision at which this was so. */
  readonly revision: string;
  readonly kind: Kind;
  readonly name: string;
  /** Whom it is taken from. */
  readonly from: Party;
  readonly was: 'holder' | 'waiter';
  /** The keys that would be deleted; with a lease all that are bound to it. */
  readonly keys: readonly string[];
  /** In hex; undefined: only keys are deleted. */
  readonly lease: string | undefined;
  /** Who is first in line after it. */
  readonly next: Party | undefined;
}

/** Why there is nothing to plan. */
export type NoPlan =
  | { readonly is: 'nobody' }
  | { readonly is: 'several'; readonly of: readonly { readonly kind: Kind; readonly key: string }[] };

/** Waiters that are looked through for the one that is named. */
const MOST_WAITERS = 100_000;

/** Reads what a release would do; changes nothing. */
export async function planRelease(client: Client, request: ReleaseRequest): Promise<ReleasePlan | NoPlan> {
  const { holder, kinds, name, signal, waiter } = request;
  const most = waiter === undefined ? 1 : MOST_WAITERS;
  const view = await showName(client, name, { kinds, most, signal });
  const was = waiter === undefined ? 'holder' : 'waiter';
  const wanted = waiter ?? holder;
  const all = view.names.flatMap((seen) => {
    const parties = was === 'holder' ? seen.holders : seen.waiters;
    return parties
      .filter(({ key }) => wanted === undefined || key === wanted)
      .map((from) => ({ from, seen }));
  });
  const [found, ...others] = all;
  if (found === undefined) return { is: 'nobody' };
  if (others.length > 0) {
    return { is: 'several', of: all.map(({ from: { key }, seen: { kind } }) => ({ key, kind })) };
  }
  const { from, seen } = found;
  const lease = request.lease === true ? from.lease : undefined;
  const id = leaseOf(lease);
  const keys = id === undefined ? keysOf(seen, from) : await keysOn(client, id, signal);
  return {
    revision: view.revision,
    kind: seen.kind,
    name,
    from,
    was,
    keys,
    lease,
    next: was === 'holder' && seen.holders.length === 1 ? seen.waiters[0] : undefined,
  };
}

/**
 * Does what was planned. `'changed'`: it is not as the plan says any more, and nothing was done. Rejects with
 * `UNKNOWN_OUTCOME` when the answer was lost.
 */
export async function release(
  client: Client,
  plan: ReleasePlan,
  signal?: AbortSignal,
): Promise<'done' | 'changed'> {
  const { from } = plan;
  const id = leaseOf(plan.lease);
  if (id !== undefined) {
    // What came to the lease since was not shown. What comes to it from now on cannot be seen: etcd revokes unconditionally.
    const keys = await keysOn(client, id, signal);
    if (keys.join('\0') !== plan.keys.join('\0')) return 'changed';
  }
  const isAsSeen = [
    compare.createRevision(from.key, '=', BigInt(from.createRevision)),
    compare.modRevision(from.key, '=', BigInt(from.modRevision)),
  ];
  const own = id === undefined ? plan.keys : [from.key];
  const then = own.map((key) => op.delete(key));
  const { succeeded } = await client.kv.txn({ if: isAsSeen, then }, { signal });
  if (!succeeded) return 'changed';
  if (id !== undefined) await client.lease.revoke(id, { signal });
  return 'done';
}

/** The keys that go with a hold, or a place in line, when it is given up. */
function keysOf({ kind, name }: Shown, { key }: Party): string[] {
  if (kind === 'barrier') return [key, key.replace(/held$/, 'holder')];
  if (kind !== 'election') return [key];
  return [key, noteKeyOf({ name, suffix: key.slice(name.length + 1) })];
}

async function keysOn(client: Client, lease: bigint, signal?: AbortSignal): Promise<string[]> {
  const { keys } = await client.lease.timeToLive(lease, { keys: true, signal });
  return keys.map(toText).sort();
}
