import type { ServerDuplexStream } from '@grpc/grpc-js';

import type { LeaseKeepAliveRequest, LeaseKeepAliveResponseInput } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import type { CallSet } from '../rpc/call-set.js';
import type { Headers } from '../rpc/headers.js';
import type { LeaseTable } from './lease-table.js';
import type { Lessor } from './lessor.js';
import type { Rpcs } from '../rpc/rpc-server.js';

/** What the lease service is made of. */
export interface LeaseParts {
  readonly table: LeaseTable;
  readonly lessor: Lessor;
  readonly headers: Headers;
  readonly calls: CallSet;
}

/** Granting, renewing, ending and showing leases. */
export function addLeaseService(rpcs: Rpcs, { table, lessor, headers, calls }: LeaseParts): void {
  const { Lease } = services;
  rpcs.unary(Lease.LeaseGrant, (request) => {
    const lease = lessor.grant(request.ID, request.TTL);
    return { header: headers.at(), ID: lease.id, TTL: lease.ttlSeconds };
  });
  rpcs.unary(Lease.LeaseRevoke, (request) => {
    lessor.revoke(request.ID);
    return { header: headers.at() };
  });
  rpcs.unary(Lease.LeaseTimeToLive, ({ ID, keys }) => {
    const lease = table.get(ID);
    if (lease === undefined) return { header: headers.at(), ID, TTL: -1n };
    return {
      header: headers.at(),
      ID,
      TTL: lessor.remainingSeconds(lease),
      grantedTTL: lease.ttlSeconds,
      keys: keys ? [...lease.keys].sort().map((key) => Buffer.from(key, 'latin1')) : [],
    };
  });
  rpcs.unary(Lease.LeaseLeases, () => ({
    header: headers.at(),
    leases: table.byDeadline().map(({ id }) => ({ ID: id })),
  }));
  rpcs.bidi(Lease.LeaseKeepAlive, (call) => {
    calls.add(call);
    keepAlive(call, lessor, headers);
  });
}

/** Renews what the stream names, in its order. A lease that is not there is answered with a time to live of 0. */
function keepAlive(
  call: ServerDuplexStream<LeaseKeepAliveRequest, LeaseKeepAliveResponseInput>,
  lessor: Lessor,
  headers: Headers,
): void {
  call.on('data', ({ ID }: LeaseKeepAliveRequest) => {
    // The header is made first: a lease revoked at revision 3 must not seem renewed at 4.
    const header = headers.at();
    const flowing = call.write({ header, ID, TTL: lessor.renew(ID)?.ttlSeconds ?? 0n });
    if (!flowing) call.pause();
  });
  call.on('drain', () => call.resume());
  call.on('end', () => call.end());
  call.on('error', () => undefined);
}
