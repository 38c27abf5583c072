/** Closing a barrier: the write that does it, once, and the transaction that undoes it. */
import { hostname } from 'node:os';

import { ConclaveError } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { OpResult } from '../etcd/kv/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import { readOwner } from '../ticket/owner.js';
import { Once, type OnceTerms } from './once.js';
import { chance } from '../util/chance.js';

/** What becomes of a barrier whose holder's session ends. */
export type IfHolderDies = 'break' | 'open' | 'stay';

/** The two keys of a barrier. */
export interface Keys {
  readonly held: string;
  readonly holder: string;
}

/** What a barrier is to be closed with. */
export interface ClosingTerms extends OnceTerms {
  readonly keys: Keys;
  readonly mode: IfHolderDies;
}

/** One attempt to close a barrier. */
export interface Closing {
  /**
   * Resolves with the revision at which it was closed. However often and late its requests arrive, it is closed once;
   * once `undoing` is confirmed after a rejection, it is not closed any more.
   */
  readonly write: (signal: AbortSignal) => Promise<bigint>;
  /** Removes what `write` wrote, calls off what it has sent, and does nothing else. Safe to repeat. */
  readonly undoing: TxnSpec;
}

/** Each try but the first stands on a broken barrier that somebody else has opened or taken over meanwhile. */
const TRIES = 10;

/** Prepares to close a barrier. */
export function closing(terms: ClosingTerms): Closing {
  const { client, keys, mode, session } = terms;
  const value = JSON.stringify({
    host: hostname(),
    id: chance.id(),
    ifHolderDies: mode,
    label: session?.label,
    pid: process.pid,
    since: new Date(client.clock.wall()).toISOString(),
  });
  const once = new Once(terms);
  const opening = {
    if: [compare.value(keys.held, '=', value)],
    then: [op.delete(keys.held), op.delete(keys.holder)],
  };
  return {
    undoing: { then: [op.delete(once.key), op.txn(opening)] },
    write: async (signal) => {
      try {
        const revision = await write(terms, value, { once, signal });
        await once.end();
        return revision;
      } catch (error) {
        void once.end();
        throw error;
      }
    },
  };
}

async function write(
  terms: ClosingTerms,
  value: string,
  { once, signal }: { readonly once: Once; readonly signal: AbortSignal },
): Promise<bigint> {
  const { keys } = terms;
  const looks = [op.get(keys.held), op.get(keys.holder)];
  let conditions: Compare[] = [compare.missing(keys.held)];
  let last: KeyValue | undefined;
  for (let tries = 1; tries <= TRIES; tries++) {
    const result = await once.write({ else: looks, if: conditions, then: puts(terms, value) }, signal);
    if (result.applied) return result.revision;
    const [held, holder] = result.found.map(onlyKv);
    if (held === undefined) {
      conditions = [compare.missing(keys.held)];
      continue;
    }
    if (held.string() === value) return held.modRevision; // By a try whose answer was lost.
    last = held;
    // Broken: taken over as it is, provided that nobody else does. Else it is held.
    if (readOwner(held)['ifHolderDies'] !== 'break' || holder?.modRevision === held.modRevision) break;
    conditions = [compare.modRevision(keys.held, '=', held.modRevision)];
  }
  throw alreadyHeld(keys.held, last);
}

function puts({ keys, mode, session }: ClosingTerms, value: string): Op[] {
  const leaseId = session?.leaseId;
  if (mode === 'stay') return [op.put(keys.held, value)];
  if (mode === 'open') return [op.put(keys.held, value, { leaseId })];
  return [op.put(keys.held, value), op.put(keys.holder, value, { leaseId })];
}

function onlyKv(response: OpResult): KeyValue | undefined {
  return response.type === 'get' ? response.kvs[0] : undefined;
}

function alreadyHeld(key: string, held: KeyValue | undefined): ConclaveError {
  const { host, pid, since } = held === undefined ? {} : readOwner(held);
  const text = `${key} is there already: process ${String(pid)} on ${String(host)} holds the barrier since ${String(since)}`;
  return new ConclaveError('ALREADY_HELD', text, { key });
}
