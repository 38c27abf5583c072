import { after, before, describe } from 'node:test';

import { Client, type ClientOptions } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { startEtcd } from 'conclave/testing';

/** A server that a suite runs on. */
export interface Backend {
  readonly kind: 'embedded' | 'etcd';
  /** Where it listens; known once the suite's tests run. */
  readonly endpoints: readonly string[];
  /** A client of it, closed when the suite ends. */
  client(options?: Omit<ClientOptions, 'endpoints'>): Client;
}

const STARTERS = {
  embedded: async () => {
    const server = await EmbeddedServer.start({ port: 0 });
    return { close: () => server.close(), endpoints: [server.endpoint] };
  },
  etcd: async () => {
    const cluster = await startEtcd();
    return { close: () => cluster.close(), endpoints: cluster.endpoints };
  },
} as const;

/** Defines the same suite for the embedded server and for a real etcd. */
export function onEachBackend(title: string, define: (backend: Backend) => void): void {
  onBackends(['embedded', 'etcd'], title, define);
}

/** Each gets a server of its own, which is empty at first and must hold no key and no lease at the end. */
export function onBackends(
  kinds: readonly Backend['kind'][],
  title: string,
  define: (backend: Backend) => void,
): void {
  for (const kind of kinds) {
    describe(`${title} (${kind})`, () => {
      let running: { readonly endpoints: readonly string[]; close(): Promise<void> } | undefined;
      const clients: Client[] = [];
      const backend: Backend = {
        client(options = {}) {
          const client = new Client({ ...options, endpoints: backend.endpoints });
          clients.push(client);
          return client;
        },
        get endpoints() {
          if (running === undefined) throw new Error('the server runs only while the tests do');
          return running.endpoints;
        },
        kind,
      };
      before(async () => {
        running = await STARTERS[kind]();
      });
      after(async () => {
        try {
          await assertNothingLeft(backend);
        } finally {
          await Promise.all(clients.map((client) => client.close()));
          await running?.close();
        }
      });
      define(backend);
    });
  }
}

/** Fails when a test left a key or a lease behind. */
async function assertNothingLeft(backend: Backend): Promise<void> {
  const client = backend.client();
  const { kvs } = await client.kv.range({ prefix: '' }, { keysOnly: true });
  const leases = await client.lease.list();
  if (kvs.length === 0 && leases.length === 0) return;
  const keys = kvs.map((kv) => kv.key).join(', ');
  throw new Error(`left behind: keys [${keys}], leases [${leases.map((id) => id.toString(16)).join(', ')}]`);
}
