import { type Client, ConclaveError, Session } from 'conclave';

import type { Backend } from './backends.js';
import { until } from './until.js';

/** Sessions of one new name, which end with the test. */
export interface World extends AsyncDisposable {
  readonly name: string;
  readonly client: Client;
  readonly sessions: readonly Session[];
  /** One of its sessions. */
  session(at: number): Session;
  /** How many keys the name has, those beside its line too. */
  keys(): Promise<number>;
  /** Resolves once it has so many. */
  untilKeys(count: number): Promise<void>;
}

/** Makes worlds on a backend. */
export function worldsOf(backend: Backend, prefix: string): (sessions: number) => Promise<World> {
  let client: Client | undefined;
  let names = 0;
  return async (count) => {
    const shared = (client ??= backend.client());
    const name = `${prefix}/${++names}`;
    const sessions = await Promise.all(Array.from({ length: count }, () => Session.open(shared)));
    const keys = async (): Promise<number> => {
      const { kvs } = await shared.kv.range({ end: `${name}0`, start: `${name}.` });
      return kvs.length;
    };
    return {
      client: shared,
      keys,
      name,
      session(at) {
        const session = sessions[at];
        if (session === undefined) throw new RangeError(`there is no session ${at}`);
        return session;
      },
      sessions,
      async untilKeys(wanted) {
        await until(async () => (await keys()) === wanted, { what: `${wanted} keys of ${name}` });
      },
      async [Symbol.asyncDispose]() {
        await Promise.all(sessions.map((session) => session.close()));
      },
    };
  };
}

/** For `assert.rejects`: a ConclaveError with this code. */
export function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof ConclaveError && error.code === expected;
}

/** Whether the promise settles before the event loop has turned a few times. */
export async function settlesSoon(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = (): void => void (settled = true);
  promise.then(note, note);
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  return settled;
}
