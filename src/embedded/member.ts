import { services } from '../proto/services.js';
import type { Clock } from '../util/clock.js';
import { chance } from '../util/chance.js';
import { addKvService } from './kv/kv-service.js';
import { addLeaseService } from './lease/lease-service.js';
import { LeaseTable } from './lease/lease-table.js';
import { risingIds } from './lease/lease-ids.js';
import { Lessor, type LessorParts } from './lease/lessor.js';
import { addAuthService, addClusterService, addMaintenanceService } from './member-services.js';
import { CallSet } from './rpc/call-set.js';
import { Headers } from './rpc/headers.js';
import type { Rpcs } from './rpc/rpc-server.js';
import { Store } from './store/store.js';
import { WatchHub } from './watch/watch-hub.js';
import { WatchStream } from './watch/watch-stream.js';

/** What a member is made with. */
export interface MemberOptions {
  readonly clock: Clock;
  readonly name: string;
  /** Where its clients connect. */
  readonly endpoint: string;
  readonly watchProgressIntervalMs: number;
  /** @default by chance */
  readonly clusterId?: bigint | undefined;
  /** What it names the leases whose id is left to it: as etcd does, or by chance alone. */
  readonly leaseIds: 'rising' | 'random';
  /** @default no request ever waits unread */
  readonly letIn?: LessorParts['letIn'];
}

/** What a member is made of. */
export interface Member {
  readonly store: Store;
  readonly table: LeaseTable;
  readonly lessor: Lessor;
  /** The streams that are open. */
  readonly calls: CallSet;
  readonly headers: Headers;
}

/** Makes a member with an empty store, and has `rpcs` answer for it. */
export function makeMember(rpcs: Rpcs, options: MemberOptions): Member {
  const { clock, endpoint, name, watchProgressIntervalMs: progressIntervalMs } = options;
  const table = new LeaseTable();
  const store = new Store(table);
  const headers = new Headers(store, options.clusterId);
  const ids =
    options.leaseIds === 'rising' ? risingIds(headers.memberId, clock.wall()) : () => chance.int63();
  const lessor = new Lessor({ clock, ids, letIn: options.letIn, store, table });
  const hub = new WatchHub(store);
  const calls = new CallSet();
  addKvService(rpcs, { calls, headers, leases: table, store });
  addLeaseService(rpcs, { calls, headers, lessor, table });
  addMaintenanceService(rpcs, store, headers);
  addClusterService(rpcs, { endpoint, name }, headers);
  addAuthService(rpcs, headers);
  rpcs.bidi(services.Watch.Watch, (call) => {
    calls.add(call);
    new WatchStream(call, { clock, headers, hub, progressIntervalMs, store });
  });
  return { calls, headers, lessor, store, table };
}
