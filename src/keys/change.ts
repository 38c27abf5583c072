/**
 * Every change of the tree: read the path, decide as etcd v2 did, write in one transaction that compares all that was
 * read; when somebody was faster, do it again.
 *
 * A transaction is sent again after a lost answer only if it compares a revision that never returns (an existing node's).
 * When its answer is lost, the mark that it has written tells whether it was applied; if the mark is not there, nobody
 * knows, and the call says `UNKNOWN_OUTCOME`.
 */

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import type { Compare } from '../etcd/kv/compare.js';
import type { Op } from '../etcd/kv/op.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Layout } from './layout.js';
import type { KeysCallOptions, KeysResponse } from './options.js';
import { look, purge, type Sight } from './sight.js';
import { chance } from '../util/chance.js';

const MOST_TRIES = 200;

/** Where a tree is. */
export interface Tree {
  readonly client: Client;
  readonly layout: Layout;
}

/** A lease for what is written. */
export interface Life {
  readonly leaseId: bigint;
  /** Milliseconds since 1970. */
  readonly expires: number;
}

/** One attempt's transaction. */
export interface Plan {
  readonly guards: readonly Compare[];
  /** Whether the guards name a state that never returns once this was applied. */
  readonly once: boolean;
  readonly writes: (life: Life | undefined) => readonly Op[];
  /** The key that gets the mark. */
  readonly marked: string;
  readonly answer: (index: bigint, life: Life | undefined) => KeysResponse;
  /** The lease of what is replaced or deleted, which nothing needs any more. */
  readonly oldLease: bigint | undefined;
}

/** A change: what is read, and what is made of it. `plan` throws what v2 would have answered instead. */
export interface Change {
  readonly path: string;
  readonly also?: Op | undefined;
  readonly ttl?: number | undefined;
  readonly plan: (sight: Sight, mark: string) => Plan;
}

/** Makes a change. Rejects with a KeysError, or with `UNKNOWN_OUTCOME` when an answer was lost for good. */
export async function makeChange(
  tree: Tree,
  change: Change,
  { signal, timeoutMs }: KeysCallOptions,
): Promise<KeysResponse> {
  const limits = { signal, timeoutMs };
  const { client } = tree;
  let life: Life | undefined;
  let leaseIsFree = true;
  try {
    for (let attempt = 0; attempt < MOST_TRIES; attempt++) {
      const sight = await look(tree, change.path, { ...limits, also: change.also });
      const mark = chance.id(12);
      const plan = change.plan(sight, mark);
      if (change.ttl !== undefined) life ??= await grant(client, change.ttl, limits);
      leaseIsFree = false;
      const index = await write(client, { life, mark, plan, what: change.path }, limits);
      if (index !== undefined && index !== 'lease') {
        if (plan.oldLease !== undefined)
          await client.lease.revoke(plan.oldLease, limits).catch(() => undefined);
        return plan.answer(index, life);
      }
      leaseIsFree = true;
      if (index === 'lease') life = undefined;
      if (sight.firstMissing !== undefined) await purge(tree, sight.firstMissing, limits);
      if (attempt > 0) await sleep(client.clock, backoffMs(attempt - 1, { baseMs: 1, maxMs: 50 }), signal);
    }
    const text = `${change.path}: others changed it first, ${String(MOST_TRIES)} times; nothing was written. Try again later`;
    throw new ConclaveError('CONFLICT', text, { key: change.path });
  } finally {
    // Where nobody knows what came of the write, the lease runs out by itself.
    if (leaseIsFree && life !== undefined) await client.lease.revoke(life.leaseId).catch(() => undefined);
  }
}

async function grant(client: Client, ttl: number, limits: KeysCallOptions): Promise<Life> {
  const wall = client.clock.wall();
  const term = await client.lease.grant(ttl, limits);
  return { expires: wall + term.ttlSeconds * 1000, leaseId: term.id };
}

interface Write {
  readonly plan: Plan;
  readonly life: Life | undefined;
  readonly mark: string;
  readonly what: string;
}

/** The index of the write; undefined if somebody was faster; `lease` if the lease has run out before. */
async function write(
  client: Client,
  { life, mark, plan, what }: Write,
  limits: KeysCallOptions,
): Promise<bigint | 'lease' | undefined> {
  const fate = { repeated: false };
  const onRepeat = (): void => {
    fate.repeated = true;
  };
  let lost: ConclaveError | undefined;
  try {
    const spec = { if: plan.guards, then: plan.writes(life) };
    const result = await client.kv.txn(spec, { ...limits, idempotent: plan.once, onRepeat });
    if (result.succeeded) return result.revision;
    if (!fate.repeated) return undefined;
  } catch (error) {
    if (hasCode(error, 'LEASE_NOT_FOUND') && !fate.repeated) return 'lease';
    if (!hasCode(error, 'UNKNOWN_OUTCOME')) throw error;
    lost = error;
  }
  const kv = await client.kv.get(plan.marked, limits).catch(() => undefined);
  if (kv?.string().includes(`"mark":"${mark}"`) === true) return kv.modRevision;
  const text = `${what}: the answer was lost, and what is there now does not tell whether it was applied; read it before you try again`;
  throw lost ?? new ConclaveError('UNKNOWN_OUTCOME', text, { key: what });
}
