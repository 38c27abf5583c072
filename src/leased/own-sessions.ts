/** Sessions of a leased key's own: for who has a client and no session. */
import type { Client } from '../etcd/client.js';
import { Session, type SessionOptions } from '../session/session.js';
import { Sessions } from '../session/sessions.js';

/** How long it may take to give back the lease. */
const GRACE_MS = 4000;

export class OwnSessions extends Sessions {
  /** Opens the first. Rejects as `Session.open` does. */
  static async open(
    client: Client,
    { label, signal, timeoutMs, ttlSeconds }: SessionOptions,
  ): Promise<OwnSessions> {
    const first = await Session.open(client, { label, signal, timeoutMs, ttlSeconds });
    return new OwnSessions(first, { label, ttlSeconds });
  }

  /** Ends them, and gives back the lease: within 4 s, or it runs out. */
  close(): Promise<void> {
    return this.endSessions(GRACE_MS);
  }
}
