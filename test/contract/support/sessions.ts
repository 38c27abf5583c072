import { type Client, Session, type SessionOptions } from 'conclave';

import { until } from '../../support/until.js';

/** Sessions of one test, closed with it. */
export class Sessions implements AsyncDisposable {
  readonly #client: Client;
  readonly #open: Session[] = [];

  constructor(client: Client) {
    this.#client = client;
  }

  async open(options: SessionOptions = {}): Promise<Session> {
    const session = await Session.open(this.#client, { ttlSeconds: 60, ...options });
    this.#open.push(session);
    return session;
  }

  /** So many sessions at once. */
  many(count: number): Promise<Session[]> {
    return Promise.all(Array.from({ length: count }, () => this.open()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#open.map((session) => session.close()));
    // A lost or orphaned session's lease may still be there.
    await Promise.all(this.#open.map((session) => this.#client.lease.revoke(session.leaseId)));
  }
}

/** How many keys there are below `name/`. */
export async function keysBelow(client: Client, name: string): Promise<string[]> {
  const { kvs } = await client.kv.range({ prefix: `${name}/` }, { sort: { by: 'create' } });
  return kvs.map((kv) => kv.key);
}

/** Resolves once there are so many keys below `name/`. */
export async function untilKeysBelow(client: Client, name: string, count: number): Promise<void> {
  const what = `${count} keys below ${name}`;
  await until(async () => (await keysBelow(client, name)).length === count, { what });
}
