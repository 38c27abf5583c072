import { Client, type ClientOptions, JobQueue, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import type { Backend } from '../support/backends.js';

export const TXN = '/etcdserverpb.KV/Txn';
export const WATCH = '/etcdserverpb.Watch/Watch';

/** A queue whose client goes through a proxy; a second one on the same name goes straight. */
export async function withProxy(
  backend: Backend,
  name: string,
  body: (scene: {
    readonly proxy: FaultProxy;
    readonly queue: JobQueue<number>;
    readonly straight: JobQueue<number>;
    readonly direct: Client;
    readonly client: Client;
    readonly session: Session;
  }) => Promise<void>,
  options: Omit<ClientOptions, 'endpoints'> = {},
): Promise<void> {
  await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
  await using client = new Client({ ...options, endpoints: [proxy.endpoint] });
  const direct = backend.client();
  await using session = await Session.open(client, { timeoutMs: 10_000, ttlSeconds: 20 });
  await using other = await Session.open(direct, { ttlSeconds: 20 });
  await using straight = new JobQueue<number>(other, name);
  await using queue = new JobQueue<number>(session, name);
  await body({ client, direct, proxy, queue, session, straight });
}
