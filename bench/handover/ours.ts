import { Client, type Lock, Mutex, Session } from 'conclave';
import type { Contender, MakeRing, Ring } from './ring.js';

/** Conclave's mutex: the sessions of one process share its client, as they would in a program. */
export const ours: MakeRing = (endpoint, name, size) =>
  ring([new Client({ endpoints: [endpoint] })], name, size);

/** The same with a client, so a connection and a watch, for every session: as if each were a process. */
export const oursApart: MakeRing = (endpoint, name, size) =>
  ring(
    Array.from({ length: size }, () => new Client({ endpoints: [endpoint] })),
    name,
    size,
  );

async function ring(clients: readonly Client[], name: string, size: number): Promise<Ring> {
  const stop = new AbortController();
  const sessions = await Promise.all(
    Array.from({ length: size }, (_, at) =>
      Session.open(clients[at % clients.length] as Client, { timeoutMs: 30_000, ttlSeconds: 60 }),
    ),
  );
  return {
    async close() {
      await Promise.all(sessions.map((session) => session.close()));
      await Promise.all(clients.map((client) => client.close()));
    },
    contenders: sessions.map((session) => contender(new Mutex(session, name), stop.signal)),
    stop: () => stop.abort(),
  };
}

function contender(mutex: Mutex, signal: AbortSignal): Contender {
  let held: Lock | undefined;
  return {
    async lock() {
      held = await mutex.lock({ signal });
      return held.fencingToken;
    },
    unlock: async () => held?.unlock(),
  };
}
