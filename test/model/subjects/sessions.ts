import { type Client, Session } from 'conclave';

/** The sessions of a process, by name: one that has ended is replaced when it is asked for again. */
export class Sessions {
  readonly #client: Client;
  readonly #opening = new Map<string, Promise<Session>>();

  constructor(client: Client) {
    this.#client = client;
  }

  /** The living session of that name. */
  async of(name: string): Promise<Session> {
    for (;;) {
      const opening = this.#opening.get(name) ?? Session.open(this.#client, { label: name, ttlSeconds: 2 });
      this.#opening.set(name, opening);
      const session = await opening;
      if (session.alive) return session;
      if (this.#opening.get(name) === opening) this.#opening.delete(name);
    }
  }

  /** Revokes its lease from outside: all that is held on it is lost. */
  async lose(name: string): Promise<void> {
    await this.#client.lease.revoke((await this.of(name)).leaseId);
  }

  async close(): Promise<void> {
    for (const session of this.#opening.values()) await (await session).close();
  }
}

/** What every subject offers. */
export function sessionOperations(sessions: Sessions): {
  lose(session: string): Promise<void>;
  close(): Promise<void>;
} {
  return { close: () => sessions.close(), lose: (session) => sessions.lose(session) };
}
