/** What a process of the latch's model does: latches by whose they are, each used until it is of no more use. */
import { type Client, Latch } from 'conclave';

import type { Operations } from '../fleet.js';
import { type Outcome, outcomeOf } from '../window.js';
import { limits } from './ask.js';
import { Sessions, sessionOperations } from './sessions.js';

/** Whose latch it is, and what it is about. */
export interface LatchOf {
  readonly actor: string;
  /** Undefined: it is used with the client alone. */
  readonly session: string | undefined;
  readonly name: string;
  readonly count: number;
}

/** What came of a call, and of which object it was. */
export interface Used<T = unknown> extends Outcome<T> {
  readonly latch: string;
}

/** The commands. */
export function operations(client: Client): Operations {
  const sessions = new Sessions(client);
  const latches = new Map<string, { readonly latch: Latch; readonly id: string }>();
  let made = 0;

  async function use<T>(of: LatchOf, work: (latch: Latch) => Promise<T>): Promise<Used<T>> {
    const { actor, session, name, count } = of;
    const by = session === undefined ? client : await sessions.of(session);
    const whose = `${actor} ${name} ${count}`;
    const used = latches.get(whose) ?? {
      id: `${process.pid}-${++made}`,
      latch: new Latch(by, name, { count }),
    };
    latches.set(whose, used);
    const outcome = await outcomeOf(client, () => work(used.latch));
    if (/^(BROKEN|MISMATCH|SESSION_LOST)$/.test(outcome.error ?? '')) latches.delete(whose);
    return { ...outcome, latch: used.id };
  }

  return {
    ...sessionOperations(sessions),

    countDown(of: LatchOf, n: number, abortAfterMs: number | undefined): Promise<Used<void>> {
      return use(of, (latch) => latch.countDown(n, limits(abortAfterMs)));
    },

    wait(of: LatchOf, abortAfterMs: number | undefined): Promise<Used<void>> {
      return use(of, (latch) => latch.wait(limits(abortAfterMs)));
    },

    count(of: LatchOf): Promise<Used<number>> {
      return use(of, (latch) => latch.count());
    },

    remove(of: LatchOf): Promise<Used<boolean>> {
      return use(of, (latch) => latch.delete());
    },
  };
}
