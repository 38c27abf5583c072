import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { Client, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { FaultProxy } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { refusal } from './rejections.js';

/** Lets a test give what the types forbid. */
export const wrong = <T>(value: unknown): T => value as T;

/** A client and a session of one server, which is not to be asked. */
export interface BadInput {
  readonly client: Client;
  readonly session: Session;
  /** Every case must be refused, with all these parts in the message, and nothing may have been sent. */
  readonly refuse: (cases: readonly (readonly [() => unknown, ...string[]])[]) => Promise<void>;
}

/** For a suite: what it needs, there while its tests run. */
export function badInput(): BadInput {
  let server: EmbeddedServer;
  let proxy: FaultProxy;
  let client: Client;
  let session: Session;
  before(async () => {
    server = await EmbeddedServer.start();
    proxy = await FaultProxy.start(server.endpoint, { grpc: true });
    client = new Client({ endpoints: proxy.endpoint });
    // Long enough to need no keepalive meanwhile.
    session = await Session.open(client, { ttlSeconds: 300 });
    await client.maintenance.serverVersion();
  });
  after(async () => {
    await session.close();
    await client.close();
    await proxy.close();
    await server.close();
  });

  /** How many requests of any kind have reached the server. */
  function requests(): number {
    const { Auth, Cluster, KV, Lease, Maintenance, Watch } = services;
    const all = { ...Auth, ...Cluster, ...KV, ...Lease, ...Maintenance, ...Watch };
    return Object.values(all).reduce((total, { path }) => total + proxy.requests(path), 0);
  }

  return {
    get client() {
      return client;
    },
    async refuse(cases) {
      const asked = requests();
      for (const [attempt, ...parts] of cases) {
        await assert.rejects(async () => attempt(), refusal(...parts), attempt.toString());
      }
      // One more call on the same connection: whatever was sent before it has been counted by the time it is answered.
      await client.kv.get('a');
      assert.equal(requests(), asked + 1, 'a refused call was sent');
    },
    get session() {
      return session;
    },
  };
}
