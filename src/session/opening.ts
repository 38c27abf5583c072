/** What opening a session needs beside the session itself: its lease, and the time that is left for the rest. */
import type { Client } from '../etcd/client.js';
import type { LeaseTerm } from '../etcd/lease/lease.js';
import type { CallOptions } from '../etcd/transport/call.js';
import { orAborted, waitAtMost } from '../util/abort.js';

/** How long a caller who gave up waits for the lease to be revoked. */
export const UNDO_MS = 1000;

/** The margin must be less than the lease's own TTL: a session would be lost as soon as it is open. */
export function checkMargin(marginMs: number | undefined, ttlSeconds: number): void {
  if (marginMs === undefined || marginMs < ttlSeconds * 1000) return;
  throw new RangeError(
    `marginMs must be less than the TTL of ${String(ttlSeconds)} s, not ${String(marginMs)}`,
  );
}

/** Grants a lease. When that is given up, the request goes on, so that what it granted can be revoked. */
export async function grantUnlessAborted(
  client: Client,
  ttlSeconds: number,
  { signal, timeoutMs }: CallOptions,
): Promise<LeaseTerm> {
  signal?.throwIfAborted();
  const granting = client.lease.grant(ttlSeconds, { timeoutMs });
  try {
    return await orAborted(granting, signal);
  } catch (error) {
    if (signal?.aborted === true) {
      const undone = granting.then(({ id }) => client.lease.revoke(id));
      await waitAtMost(client.clock, UNDO_MS, undone);
    }
    throw error;
  }
}

/** What is left of the limits of opening for its next call: the calls share them. */
export function leftOf(limits: CallOptions, spentMs: number): CallOptions {
  const { timeoutMs } = limits;
  return timeoutMs === undefined ? limits : { ...limits, timeoutMs: Math.max(1, timeoutMs - spentMs) };
}
