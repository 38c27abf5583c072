/** The transaction that commits an attempt: what must not have changed, what is written, what tells who was in the way. */

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import { encodeRange } from '../etcd/kv/key-range.js';
import type { OpResult } from '../etcd/kv/kv-results.js';
import { type Op, op } from '../etcd/kv/op.js';
import { orAborted } from '../util/abort.js';
import { toText } from '../util/bytes.js';
import type { Records, Slot } from './records.js';
import type { Read, Transaction } from './transaction.js';
import { id, inRange, type Isolation, type Write } from './types.js';
import { chance } from '../util/chance.js';

/** What came of an attempt's commit. */
export type Outcome =
  | { readonly is: 'committed'; readonly revision: bigint }
  /** Something it stands on had changed. `fresh`: its keys as they were found then. */
  | {
      readonly is: 'conflict';
      readonly key: string | undefined;
      readonly fresh: readonly Read[];
      readonly revision: bigint;
    };

/** What a commit is made of. */
export interface CommitTerms {
  readonly client: Client;
  readonly isolation: Isolation;
  /** Undefined: commits are not recorded. */
  readonly records: Records | undefined;
  readonly maxOps: number;
  readonly signal: AbortSignal | undefined;
}

/** Commits an attempt, once. Rejects with `UNKNOWN_OUTCOME` only when nobody can tell, `TOO_MANY_OPS` before sending. */
export async function commit(tx: Transaction, terms: CommitTerms): Promise<Outcome> {
  const guards = guardsOf(tx, terms.isolation);
  const writes = [...tx.writes.values()].map(writeOp);
  const recorded = terms.records === undefined || writes.length === 0 ? 0 : 1;
  const most = Math.max(guards.length + recorded, writes.length + recorded);
  if (most > terms.maxOps) throw tooMany(guards.length, writes.length, terms.maxOps);
  const looks = looksOf(tx, terms);
  if (recorded === 0 || terms.records === undefined) {
    if (writes.length === 0 && guards.length === 0) return { is: 'committed', revision: tx.pin ?? 0n };
    const spec = { else: looks.ops, if: guards, then: writes };
    const result = await terms.client.kv.txn(spec, { signal: terms.signal });
    return result.succeeded ? committed(result.revision) : looks.conflict(result.responses, result.revision);
  }
  return recordedCommit(terms, terms.records, { guards, looks, writes });
}

interface Parts {
  readonly guards: readonly Compare[];
  readonly writes: readonly Op[];
  readonly looks: Looks;
}

async function recordedCommit(terms: CommitTerms, records: Records, parts: Parts): Promise<Outcome> {
  const { client, signal } = terms;
  const slot = await takeSlot(records, signal);
  let usable = false;
  const value = chance.id();
  try {
    const result = await client.kv.txn(recordedSpec(slot, value, parts), { signal });
    if (!result.succeeded) {
      const [record, ...looked] = result.responses;
      // A record that somebody removed is of no use to the next commit.
      const found = record?.type === 'get' ? record.kvs[0] : undefined;
      usable = (found?.modRevision ?? 0n) === slot.modRevision;
      return parts.looks.conflict(looked, result.revision);
    }
    usable = true;
    slot.modRevision = result.revision;
    return committed(result.revision);
  } catch (error) {
    if (hasCode(error, 'LEASE_NOT_FOUND')) return await leaseGone(slot, records, error, terms);
    if (signal?.aborted === true || !hasCode(error, 'UNKNOWN_OUTCOME')) throw error;
    const fate = await records.settle(slot, value, signal);
    if (fate.is === 'unknown') throw error;
    usable = true;
    if (fate.is === 'applied') return committed(fate.revision);
    // Never applied, and it never will be: the function runs again on what is there now.
    return { fresh: [], is: 'conflict', key: undefined, revision: 0n };
  } finally {
    records.giveBack(slot, usable);
  }
}

/** A slot takes a lease, for which an aborted caller does not wait. */
async function takeSlot(records: Records, signal: AbortSignal | undefined): Promise<Slot> {
  const taking = records.take();
  try {
    return await orAborted(taking, signal);
  } catch (error) {
    void taking.then(
      (slot) => records.giveBack(slot, true),
      () => undefined,
    );
    throw error;
  }
}

function recordedSpec(
  slot: Slot,
  value: string,
  { guards, looks, writes }: Parts,
): { if: Compare[]; then: Op[]; else: Op[] } {
  return {
    else: [op.get(slot.key), ...looks.ops],
    if: [...guards, compare.modRevision(slot.key, '=', slot.modRevision)],
    then: [...writes, op.put(slot.key, value, { leaseId: slot.leaseId })],
  };
}

/** The lease that is gone may be the records' own (then nothing was written), or one that the caller gave. */
async function leaseGone(
  slot: Slot,
  records: Records,
  error: ConclaveError,
  { client, signal }: CommitTerms,
): Promise<Outcome> {
  const { ttlSeconds } = await client.lease.timeToLive(slot.leaseId, { signal });
  if (ttlSeconds >= 0) throw error;
  records.forget(slot);
  return { fresh: [], is: 'conflict', key: undefined, revision: 0n };
}

function committed(revision: bigint): Outcome {
  return { is: 'committed', revision };
}

function writeOp(write: Write): Op {
  if (write.type === 'delete') return op.delete(write.key);
  return op.put(write.key, write.value, { leaseId: write.leaseId });
}

/** What must hold for the attempt to be as if it had happened at one moment, as far as its level asks for it. */
function guardsOf(tx: Transaction, isolation: Isolation): Compare[] {
  if (isolation === 'readCommitted') return [];
  const pinned = isolation !== 'repeatableReads';
  // Reads of one revision fit together by themselves: without writes there is nothing to hold them against.
  if (pinned && tx.writes.size === 0) return [];
  const guards: Compare[] = [];
  for (const { key, kv } of tx.reads.values()) {
    guards.push(compare.modRevision(key, '=', kv?.modRevision ?? 0n));
  }
  if (!pinned || tx.pin === undefined) return guards;
  const unchanged = tx.pin + 1n;
  // No key of a range has been written since; that none was deleted, its keys' own compares say.
  for (const range of tx.ranges) guards.push(compare.modRevision(range, '<', unchanged));
  if (isolation === 'serializable') return guards;
  const wires = tx.ranges.map(encodeRange);
  for (const [name, { key }] of tx.writes) {
    const covered = tx.reads.has(name) || wires.some((wire) => inRange(key, wire));
    if (!covered) guards.push(compare.modRevision(key, '<', unchanged));
  }
  return guards;
}

/** What is read when the commit is refused. */
interface Looks {
  readonly ops: readonly Op[];
  readonly conflict: (responses: readonly OpResult[], revision: bigint) => Outcome;
}

/** Reads the keys again, for the next attempt to begin with, and whatever is new in the ranges, to name it. */
function looksOf(tx: Transaction, { isolation, maxOps }: CommitTerms): Looks {
  if (isolation === 'readCommitted') {
    const conflict = (): Outcome => ({ fresh: [], is: 'conflict', key: undefined, revision: 0n });
    return { conflict, ops: [] };
  }
  const since = { keysOnly: true, limit: 1, minModRevision: (tx.pin ?? 0n) + 1n };
  const ranges = tx.ranges.slice(0, maxOps - 1).map((range) => op.get(range, since));
  const written = [...tx.writes.values()].filter(({ key }) => !tx.reads.has(id(key)));
  const keys = [...[...tx.reads.values()].map(({ key }) => key), ...written.map(({ key }) => key)];
  const asked = keys.slice(0, maxOps - 1 - ranges.length);
  return {
    conflict: (responses, revision) => {
      const found = responses.map((response) => (response.type === 'get' ? response.kvs[0] : undefined));
      const fresh = asked.map((key, at) => ({ key, kv: found[at] }));
      const changed = fresh.find(({ key, kv }) => {
        const read = tx.reads.get(id(key));
        if (read === undefined) return tx.pin !== undefined && (kv?.modRevision ?? 0n) > tx.pin;
        return (read.kv?.modRevision ?? 0n) !== (kv?.modRevision ?? 0n);
      });
      const phantom = found.slice(asked.length).find((kv) => kv !== undefined);
      const key = changed === undefined ? phantom?.key : toText(changed.key);
      return { fresh: fresh.filter((read) => tx.reads.has(id(read.key))), is: 'conflict', key, revision };
    },
    ops: [...asked.map((key) => op.get(key)), ...ranges],
  };
}

function tooMany(guards: number, writes: number, maxOps: number): ConclaveError {
  const text = `stm: ${String(guards)} keys to compare and ${String(writes)} to write are more than the ${String(maxOps)} operations that etcd takes in one transaction (one of each is the commit's record); nothing was sent. Split it, or raise etcd's --max-txn-ops and maxTxnOps`;
  return new ConclaveError('TOO_MANY_OPS', text);
}
