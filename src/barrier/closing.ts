/** Closing a barrier: the guarded transaction that does it, and the one that undoes it. */
import { hostname } from 'node:os';

import { nanoid } from 'nanoid';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import type { OpResult } from '../etcd/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import { readOwner } from '../ticket/owner.js';

/** What becomes of a barrier whose holder's session ends. */
export type IfHolderDies = 'break' | 'open' | 'stay';

/** The two keys of a barrier. */
export interface Keys {
  readonly held: string;
  readonly holder: string;
}

/** What a barrier is to be closed with. */
export interface ClosingTerms {
  readonly client: Client;
  readonly session: Session | undefined;
  readonly keys: Keys;
  readonly mode: IfHolderDies;
}

/** One attempt to close a barrier. */
export interface Closing {
  /** Resolves with the revision at which it was closed. Safe when the answer is lost: the value tells that it was us. */
  readonly write: () => Promise<bigint>;
  /** Removes what `write` wrote, and nothing else. */
  readonly undoing: TxnSpec;
}

/** Prepares to close a barrier. */
export function closing(terms: ClosingTerms): Closing {
  const { client, keys, mode, session } = terms;
  const value = JSON.stringify({
    host: hostname(),
    id: nanoid(),
    ifHolderDies: mode,
    label: session?.label,
    pid: process.pid,
    since: new Date(client.clock.wall()).toISOString(),
  });
  return {
    undoing: {
      if: [compare.value(keys.held, '=', value)],
      then: [op.delete(keys.held), op.delete(keys.holder)],
    },
    write: () => write(terms, value),
  };
}

async function write(terms: ClosingTerms, value: string): Promise<bigint> {
  const { client, keys, session } = terms;
  let conditions: Compare[] = [compare.missing(keys.held)];
  for (;;) {
    const spec = { else: [op.get(keys.held), op.get(keys.holder)], if: conditions, then: puts(terms, value) };
    const result = await client.kv.txn(spec, { idempotent: true }).catch((error: unknown) => {
      if (hasCode(error, 'LEASE_NOT_FOUND')) session?.leaseIsGone();
      throw error;
    });
    if (result.succeeded) return result.revision;
    const [held, holder] = result.responses.map(onlyKv);
    if (held === undefined) {
      conditions = [compare.missing(keys.held)];
    } else if (held.string() === value) {
      return held.modRevision; // By a try whose answer was lost.
    } else if (readOwner(held)['ifHolderDies'] === 'break' && holder?.modRevision !== held.modRevision) {
      // Broken: taken over as it is, provided that nobody else does.
      conditions = [compare.modRevision(keys.held, '=', held.modRevision)];
    } else {
      throw alreadyHeld(held);
    }
  }
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

function alreadyHeld(held: KeyValue): ConclaveError {
  const { host, pid, since } = readOwner(held);
  const text = `${held.key} is there already: process ${String(pid)} on ${String(host)} holds the barrier since ${String(since)}`;
  return new ConclaveError('ALREADY_HELD', text, { key: held.key });
}
