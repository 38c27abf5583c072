/**
 * Who waits for whom, as far as etcd's keys show it: a session that holds something and stands in another line waits for the
 * first of that line. A way from there back to ourselves is a cycle, also through Go's clients and etcdctl, whose keys are
 * named alike.
 *
 * Not seen: candidates of Go's that say something, whose keys may be anybody's; lines of which several hold at once (readers,
 * permits of a semaphore), since who of them is waited for is not in the keys; and which task of a process it is, so that a
 * cycle of sessions is a deadlock only if no other task of theirs gives back what it takes.
 */
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { Session } from '../session/session.js';
import { OVER, waitAtMost } from '../util/abort.js';
import { inOrder } from './line-keys.js';
import { type OwnerInfo, readOwner } from './owner.js';
import { noteKeyOf } from './take.js';

/** It is looked for no longer, and through no more keys, than that. */
const LOOK_MS = 1000;
const MOST_LINES = 50;
/** A thousand waits may end in one moment: so many of a client look at once, and the others do without. */
const MOST_AT_ONCE = 4;

const looking = new WeakMap<Client, number>();

/** A session that waits in the line of `name`. */
export interface Step {
  readonly lease: bigint;
  readonly owner: OwnerInfo;
  readonly name: string;
}

/**
 * Those who wait for one another from `holder`, a key of who has what we wait for, back to `session`: each waits for the next
 * one, and the last for us. Undefined when there is no such way, or it was not found in time.
 */
export async function cycleFrom(session: Session, holder: KeyValue): Promise<readonly Step[] | undefined> {
  const { client } = session;
  const atOnce = looking.get(client) ?? 0;
  if (atOnce >= MOST_AT_ONCE || holder.leaseId === undefined) return undefined;
  looking.set(client, atOnce + 1);
  const found: { way?: readonly Step[] | undefined } = {};
  const look = new AbortController();
  try {
    const search = new Search(session, look.signal);
    const finding = search.from(holder.leaseId).then((way) => (found.way = way));
    await waitAtMost(client.clock, LOOK_MS, finding);
    return found.way;
  } finally {
    look.abort(OVER);
    looking.set(client, (looking.get(client) ?? 1) - 1);
  }
}

/** One search, breadth first: what it finds is the shortest way. */
class Search {
  readonly #client: Client;
  readonly #goal: bigint;
  readonly #signal: AbortSignal;
  #linesLeft = MOST_LINES;

  constructor({ client, leaseId }: Session, signal: AbortSignal) {
    this.#client = client;
    this.#goal = leaseId;
    this.#signal = signal;
  }

  async from(lease: bigint): Promise<readonly Step[] | undefined> {
    if (lease === this.#goal) return undefined;
    const seen = new Set([lease]);
    const ways: { readonly lease: bigint; readonly way: readonly Step[] }[] = [{ lease, way: [] }];
    for (const { lease: at, way } of ways) {
      for await (const { first, owner, name } of this.#waitsOf(at)) {
        const longer = [...way, { lease: at, name, owner }];
        if (first === this.#goal) return longer;
        if (!seen.has(first)) ways.push({ lease: first, way: longer });
        seen.add(first);
      }
    }
    return undefined;
  }

  /** The lines that a lease's session waits in, and who is first in them. */
  async *#waitsOf(lease: bigint): AsyncGenerator<{ first: bigint; name: string; owner: OwnerInfo }> {
    const options = { signal: this.#signal };
    const { keys } = await this.#client.lease.timeToLive(lease, { keys: true, ...options });
    const bound = new Set(keys.map(String));
    for (const key of bound) {
      const slash = key.lastIndexOf('/');
      const [name, suffix] = [key.slice(0, Math.max(slash, 0)), key.slice(slash + 1)];
      if (!suffix.startsWith(leaseHex(lease)) || !isLine(name) || this.#linesLeft === 0) continue;
      this.#linesLeft -= 1;
      const sort = { by: 'create', order: 'asc' } as const;
      const read = await this.#client.kv.range({ prefix: `${name}/` }, { limit: 100, sort, ...options });
      const line = inOrder(read.kvs, name);
      const [first] = line;
      const own = line.find((kv) => kv.key === key);
      if (first?.leaseId === undefined || own === undefined || first === own || sharesWithOthers(first))
        continue;
      const isNoted = bound.has(noteKeyOf({ name, suffix }));
      if (isNoted || isLockKey(own))
        yield { first: first.leaseId, name, owner: isNoted ? {} : readOwner(own) };
    }
  }
}

/** Whether keys below `name` may stand in line there: ours beside a line, or below a segment with a dot, do not. */
function isLine(name: string): boolean {
  return !name.includes('.~') && !name.split('/').some((segment) => segment.startsWith('.'));
}

/** Whether a key is written as our locks, or those of Go's clients, write it. */
function isLockKey(kv: KeyValue): boolean {
  const { host, pid } = readOwner(kv);
  return kv.value.length === 0 || (host !== undefined && pid !== undefined);
}

/** Whether others may hold beside it. */
function sharesWithOthers(kv: KeyValue): boolean {
  const { mode, weight } = readOwner(kv);
  return mode === 'read' || weight !== undefined;
}
