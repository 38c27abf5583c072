import { Client, type ClientOptions, Election, Mutex, op, Session } from 'conclave';
import { atOnce, inTurn, IN_FLIGHT, oneByOne, type Peer, VALUE, WATCHED_EVENTS } from './workloads.js';

/** Conclave. */
export async function ours(endpoint: string, prefix: string, options: ClientOptions = {}): Promise<Peer> {
  const client = new Client({ ...options, endpoints: [endpoint] });
  const { kv } = client;
  const sessions = await Promise.all([1, 2].map(() => Session.open(client, { ttlSeconds: 60 })));
  const mutexes = sessions.map((session) => new Mutex(session, `${prefix}/lock`));
  const elections = sessions.map((session) => new Election(session, `${prefix}/election`));
  return {
    async close() {
      await Promise.all(sessions.map((session) => session.close()));
      await client.close();
    },
    name: 'conclave',
    workloads: {
      election: (seconds) =>
        inTurn(
          seconds,
          elections.map((election) => async () => (await election.campaign('x')).resign()),
        ),
      async get(seconds) {
        for (let at = 0; at < IN_FLIGHT; at++) await kv.put(`${prefix}/get/${String(at)}`, VALUE);
        const rate = await atOnce(seconds, (worker) => kv.get(`${prefix}/get/${String(worker)}`));
        await kv.delete({ prefix: `${prefix}/get/` });
        return rate;
      },
      lock: (seconds) => oneByOne(seconds, async () => (await mutexes[0]?.lock())?.unlock()),
      async put(seconds) {
        const rate = await atOnce(seconds, (worker, turn) =>
          kv.put(`${prefix}/put/${String(worker)}/${String(turn % 8)}`, VALUE),
        );
        await kv.delete({ prefix: `${prefix}/put/` });
        return rate;
      },
      async watch() {
        const startRevision = await writeHistory(client, `${prefix}/watch/`);
        const from = performance.now();
        let seen = 0;
        for await (const { events } of client.watch({ prefix: `${prefix}/watch/` }, { startRevision })) {
          seen += events.length;
          if (seen >= WATCHED_EVENTS) break;
        }
        const rate = (seen * 1000) / (performance.now() - from);
        await kv.delete({ prefix: `${prefix}/watch/` });
        return rate;
      },
    },
  };
}

/** Conclave with `batch: 'all'`, where that makes a difference. */
export async function oursBatched(endpoint: string, prefix: string): Promise<Peer> {
  const peer = await ours(endpoint, prefix, { batch: 'all' });
  const { put } = peer.workloads;
  return { close: () => peer.close(), name: "batch: 'all'", workloads: put === undefined ? {} : { put } };
}

/** Writes the events that a watch is to bring, 100 to a revision, and returns the first revision. */
export async function writeHistory(client: Client, prefix: string): Promise<bigint> {
  let first = 0n;
  for (let at = 0; at < WATCHED_EVENTS; at += 100) {
    const steps = Array.from({ length: 100 }, (_, more) => op.put(`${prefix}${String(at + more)}`, VALUE));
    const { revision } = await client.kv.txn({ then: steps });
    if (first === 0n) first = revision;
  }
  return first;
}
