import { createRequire } from 'node:module';
import path from 'node:path';
import { Client } from 'conclave';
import { top } from '../lib/top.js';
import { writeHistory } from './ours.js';
import { atOnce, inTurn, IN_FLIGHT, oneByOne, type Peer, VALUE, WATCHED_EVENTS } from './workloads.js';

/** What we use of the package etcd3, which may not be installed, so that its own types may not be there. */
interface Etcd3 {
  put(key: string): { value(value: string): PromiseLike<unknown> };
  get(key: string): PromiseLike<unknown>;
  delete(): { prefix(prefix: string): PromiseLike<unknown> };
  lock(key: string): { ttl(seconds: number): { acquire(): Promise<{ release(): Promise<void> }> } };
  election(
    name: string,
    ttl: number,
  ): { campaign(value: string): { wait(): Promise<unknown>; resign(): Promise<void> } };
  watch(): { prefix(prefix: string): { startRevision(revision: string): { watcher(): Etcd3Watcher } } };
  close(): void;
}

interface Etcd3Watcher {
  on(event: 'put', listener: () => void): void;
  cancel(): Promise<void>;
}

/** The package etcd3 from npm; undefined, after saying so, where bench/ has not been installed. */
export function etcd3(endpoint: string, prefix: string): Peer | undefined {
  let peer: Etcd3;
  try {
    const load = createRequire(path.join(top, 'bench/package.json'));
    const { Etcd3: Etcd3Client } = load('etcd3') as { Etcd3: new (options: object) => Etcd3 };
    peer = new Etcd3Client({ hosts: endpoint });
  } catch {
    console.error('without npm etcd3: run "npm ci" in bench/');
    return undefined;
  }
  const client = new Client({ endpoints: [endpoint] });
  return {
    async close() {
      peer.close();
      await client.close();
    },
    name: 'npm etcd3',
    workloads: {
      election: (seconds) =>
        inTurn(
          seconds,
          [1, 2].map(() => async () => {
            const campaign = peer.election(`${prefix}/election`, 60).campaign('x');
            await campaign.wait();
            await campaign.resign();
          }),
        ),
      async get(seconds) {
        for (let at = 0; at < IN_FLIGHT; at++) await peer.put(`${prefix}/get/${String(at)}`).value(VALUE);
        const rate = await atOnce(seconds, async (worker) => peer.get(`${prefix}/get/${String(worker)}`));
        await peer.delete().prefix(`${prefix}/get/`);
        return rate;
      },
      lock: (seconds) =>
        oneByOne(seconds, async () => {
          const lock = await peer.lock(`${prefix}/lock`).ttl(60).acquire();
          await lock.release();
        }),
      async put(seconds) {
        const rate = await atOnce(seconds, async (worker, turn) =>
          peer.put(`${prefix}/put/${String(worker)}/${String(turn % 8)}`).value(VALUE),
        );
        await peer.delete().prefix(`${prefix}/put/`);
        return rate;
      },
      async watch() {
        const first = await writeHistory(client, `${prefix}/watch/`);
        const from = performance.now();
        const watcher = peer.watch().prefix(`${prefix}/watch/`).startRevision(String(first)).watcher();
        const rate = await new Promise<number>((resolve) => {
          let seen = 0;
          watcher.on('put', () => {
            seen += 1;
            if (seen === WATCHED_EVENTS) resolve((seen * 1000) / (performance.now() - from));
          });
        });
        await watcher.cancel();
        await peer.delete().prefix(`${prefix}/watch/`);
        return rate;
      },
    },
  };
}
