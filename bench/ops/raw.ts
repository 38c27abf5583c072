import { Client } from 'conclave';
import { services } from '#conclave/proto/services.js';
import { asGo } from '../handover/as-go.js';
import { RawEtcd } from '../lib/raw-etcd.js';
import { writeHistory } from './ours.js';
import { atOnce, IN_FLIGHT, oneByOne, type Peer, VALUE, WATCHED_EVENTS } from './workloads.js';

/** grpc-js alone: no deadline, no retry, no failover, no types. What its calls cost, every client on it has to pay. */
export async function raw(endpoint: string, prefix: string): Promise<Peer> {
  const etcd = new RawEtcd(endpoint);
  const client = new Client({ endpoints: [endpoint] });
  const { KV } = services;
  const value = Buffer.from(VALUE);
  const bytes = (text: string): Buffer => Buffer.from(`${prefix}/${text}`);
  const put = (key: string): Promise<unknown> => etcd.call(KV.Put, { key: bytes(key), value });
  return {
    async close() {
      etcd.close();
      await client.close();
    },
    name: 'raw grpc-js',
    workloads: {
      async get(seconds) {
        for (let at = 0; at < IN_FLIGHT; at++) await put(`get/${String(at)}`);
        const rate = await atOnce(seconds, (worker) =>
          etcd.call(KV.Range, { key: bytes(`get/${String(worker)}`) }),
        );
        await client.kv.delete({ prefix: `${prefix}/get/` });
        return rate;
      },
      // Go's two calls, by themselves.
      async lock(seconds) {
        const ring = await asGo(endpoint, `${prefix}/lock`, 1);
        const rate = await oneByOne(seconds, async () => {
          await ring.contenders[0]?.lock();
          await ring.contenders[0]?.unlock();
        });
        await ring.close();
        return rate;
      },
      async put(seconds) {
        const rate = await atOnce(seconds, (worker, turn) =>
          put(`put/${String(worker)}/${String(turn % 8)}`),
        );
        await client.kv.delete({ prefix: `${prefix}/put/` });
        return rate;
      },
      async watch() {
        const first = await writeHistory(client, `${prefix}/watch/`);
        const from = performance.now();
        const rate = await new Promise<number>((resolve) => {
          let seen = 0;
          const count = (events: readonly unknown[]): void => {
            seen += events.length;
            if (seen >= WATCHED_EVENTS) resolve((seen * 1000) / (performance.now() - from));
          };
          void etcd.watch(bytes('watch/'), first, count, bytes('watch0'));
        });
        await client.kv.delete({ prefix: `${prefix}/watch/` });
        return rate;
      },
    },
  };
}
