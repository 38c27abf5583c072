import { after, before } from 'node:test';
import { Client, Session } from 'conclave';
import { startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { buildGo, type GoPeer, type GoProgram } from './go-peer.js';

/** An etcd, and people of both kinds on it. */
export interface Scene {
  readonly client: Client;
  /** A session of ours on a client of its own. */
  readonly ours: (ttlSeconds?: number) => Promise<Session>;
  /** A process of Go's. */
  readonly go: (ttlSeconds?: number) => Promise<GoPeer>;
  /** Resolves when so many stand in line for `name`. */
  readonly inLine: (name: string, count: number) => Promise<void>;
}

let program: GoProgram | undefined;
before(async () => {
  program = await buildGo();
});
after(() => program?.[Symbol.asyncDispose]());

/** Runs `play` on an etcd of its own; afterwards nobody may have left a key or a lease. */
export async function onStage(play: (scene: Scene) => Promise<void>): Promise<void> {
  const built = program;
  if (built === undefined) throw new Error('the Go program is built before the tests run');
  await using etcd = await startEtcd();
  const { endpoint, endpoints } = etcd;
  await using client = new Client({ endpoints });
  const actors: AsyncDisposable[] = [];
  const scene: Scene = {
    client,
    async go(ttlSeconds) {
      const peer = await built.start(endpoint, ttlSeconds);
      actors.push(peer);
      return peer;
    },
    async inLine(name, count) {
      await until(async () => (await client.kv.range({ prefix: `${name}/` })).count === BigInt(count), {
        what: `${count} in line for ${name}`,
      });
    },
    async ours(ttlSeconds = 60) {
      const own = new Client({ endpoints });
      actors.push(own);
      const session = await Session.open(own, { ttlSeconds });
      actors.push(session);
      return session;
    },
  };
  try {
    await play(scene);
  } finally {
    for (const actor of actors.reverse()) await actor[Symbol.asyncDispose]();
  }
  await client.kv.delete({ prefix: 'data/' });
  await until(async () => (await client.lease.list()).length === 0, { what: 'all leases are gone' });
  const { kvs } = await client.kv.range({ prefix: '' });
  if (kvs.length > 0) throw new Error(`left behind: ${kvs.map((kv) => kv.key).join(', ')}`);
}
