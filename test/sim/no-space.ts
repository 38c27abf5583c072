/**
 * etcd that has no room left: what puts something is refused, as by its alarm. Before the alarm there is a moment when a
 * write is done, and answered as if it were refused. Deletions, reads and renewals go on.
 */
import { status } from '@grpc/grpc-js';
import type { World } from 'conclave/testing';

import type { RequestOpInput, TxnRequest } from '#conclave/proto/messages.gen.js';
import { services } from '#conclave/proto/services.js';

const { KV, Lease } = services;
const NO_SPACE = {
  code: status.RESOURCE_EXHAUSTED,
  details: 'etcdserver: mvcc: database space exceeded',
} as const;

/** Has no room for so long. */
export function fill({ server, timeline }: World, ms: number): void {
  const answer = server.answer.bind(server);
  let isFull = false;
  let isOver = false;
  // Another one may have come between, and goes when its own time is over.
  server.answer = (path, request, bytes) => {
    if (isOver || !puts(path, request)) return answer(path, request, bytes);
    if (isFull || path === Lease.LeaseGrant.path) return NO_SPACE;
    isFull = true;
    const done = answer(path, request, bytes);
    return 'reply' in done ? NO_SPACE : done;
  };
  timeline.after(ms, () => (isOver = true));
}

function puts(path: string, request: unknown): boolean {
  if (path === KV.Put.path || path === Lease.LeaseGrant.path) return true;
  if (path !== KV.Txn.path) return false;
  const { failure, success } = request as TxnRequest;
  return [...success, ...failure].some(isPut);
}

function isPut({ requestPut, requestTxn }: RequestOpInput): boolean {
  if (requestPut != null) return true;
  return [...(requestTxn?.success ?? []), ...(requestTxn?.failure ?? [])].some(isPut);
}
