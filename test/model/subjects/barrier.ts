/** What a process of the barrier's model does: sessions by name, holds by number. */
import { Barrier, type BarrierHold, type BarrierHoldOptions, type Client, hasCode, op } from 'conclave';

import type { Operations } from '../fleet.js';
import { type Outcome, outcomeOf } from '../window.js';
import { limits } from './ask.js';
import { Numbered } from './numbered.js';
import { Sessions, sessionOperations } from './sessions.js';

/** What becomes of a barrier whose holder dies. */
export type Mode = NonNullable<BarrierHoldOptions['ifHolderDies']>;

/** A barrier that was closed. */
export interface Closed {
  readonly hold: number;
  readonly token: bigint;
  readonly leaseId: bigint | undefined;
}

/** The commands. Without a session they are done with the client alone. */
export function operations(client: Client): Operations {
  const sessions = new Sessions(client);
  const holds = new Numbered<BarrierHold>('hold');

  return {
    ...sessionOperations(sessions),

    async hold(
      session: string | undefined,
      name: string,
      ifHolderDies: Mode,
      abortAfterMs: number | undefined,
    ): Promise<Outcome<Closed>> {
      const by = session === undefined ? undefined : await sessions.of(session);
      return outcomeOf(client, async () => {
        const barrier = new Barrier(by ?? client, name);
        const hold = await barrier.hold({ ...limits(abortAfterMs), ifHolderDies });
        return { hold: holds.add(hold), leaseId: by?.leaseId, token: hold.fencingToken };
      });
    },

    /** Writes under a hold; the revision of the write, or undefined when it was refused. */
    async write(hold: number, key: string): Promise<bigint | undefined> {
      const under = holds.get(hold);
      try {
        return (await under.txn({ then: [op.put(key, '')] })).revision;
      } catch (error) {
        if (hasCode(error, 'NOT_HELD')) return undefined;
        throw error;
      }
    },

    release(hold: number): Promise<Outcome<void>> {
      return outcomeOf(client, () => holds.get(hold).release());
    },

    async wait(
      session: string | undefined,
      name: string,
      abortAfterMs: number | undefined,
    ): Promise<Outcome<void>> {
      const barrier = new Barrier(session === undefined ? client : await sessions.of(session), name);
      return outcomeOf(client, () => barrier.wait(limits(abortAfterMs)));
    },

    inspect(name: string): Promise<Outcome<string>> {
      return outcomeOf(client, async () => (await new Barrier(client, name).inspect()).state);
    },

    reset(name: string): Promise<Outcome<boolean>> {
      return outcomeOf(client, () => new Barrier(client, name).reset());
    },
  };
}
