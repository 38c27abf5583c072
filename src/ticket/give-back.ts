/** The transactions that give tickets back. Each can be sent again, and arrive late, and hit no other ticket. */
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { TxnResult } from '../etcd/kv/kv.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import { lookBack, maybeLast, tidyUp } from './nobody.js';
import { keyOf, noteKeyOf, type TicketRequest } from './take.js';

/** What removes the ticket and its note. */
export function removeAll(request: TicketRequest): Op[] {
  const removal = op.delete(keyOf(request));
  return request.note === undefined ? [removal] : [removal, op.delete(noteKeyOf(request))];
}

/**
 * Removes the ticket created at `createRevision` while `ours` hold, and does what the last of the line does if it is the
 * last. A ticket that a later life on the same lease has made its own stays.
 */
export function removalOf(request: TicketRequest, createRevision: bigint, ours: readonly Compare[]): TxnSpec {
  const { last, name, note, session } = request;
  const key = keyOf(request);
  const steps = removeAll(request);
  const there = compare.createRevision(key, '=', createRevision);
  // What somebody else has left of it: a ticket that was cut off from our lease, or one of the two keys without the other.
  const remains = [[there, compare.lease(key, '!=', session.leaseId)]];
  if (note !== undefined) remains.push([compare.missing(key)], [there, compare.missing(noteKeyOf(request))]);
  const plain = { else: remains.map((each) => op.txn({ if: each, then: steps })), if: ours, then: steps };
  if (last === undefined) return plain;
  const alone = compare.createRevision({ prefix: `${name}/` }, '=', createRevision);
  return {
    else: [op.txn(plain), lookBack(request)],
    if: [alone, ...ours],
    then: [...steps, ...last],
  };
}

/** What is left to do once that transaction is through: other people's keys hide that a ticket was the last of its line. */
export async function afterRemoval(
  request: TicketRequest,
  { responses, succeeded }: TxnResult,
): Promise<void> {
  if (!succeeded && request.last !== undefined && maybeLast(request, responses[1])) await tidyUp(request);
}
