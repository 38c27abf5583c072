/** What a process of the double barrier's model does: one party for each session. */
import { type Client, DoubleBarrier, type Session } from 'conclave';

import type { Operations } from '../fleet.js';
import { type Outcome, outcomeOf } from '../window.js';
import { limits } from './ask.js';
import { Sessions, sessionOperations } from './sessions.js';

/** What came of an attempt to enter: the round's number. */
export interface Entry extends Outcome<bigint> {
  readonly leaseId: bigint;
}

/** The commands. */
export function operations(client: Client): Operations {
  const sessions = new Sessions(client);
  const parties = new Map<Session, DoubleBarrier>();

  return {
    ...sessionOperations(sessions),

    async enter(
      session: string,
      name: string,
      count: number,
      abortAfterMs: number | undefined,
    ): Promise<Entry> {
      const by = await sessions.of(session);
      const party = parties.get(by) ?? new DoubleBarrier(by, name, { count });
      parties.set(by, party);
      return { ...(await outcomeOf(client, () => party.enter(limits(abortAfterMs)))), leaseId: by.leaseId };
    },

    /** Leaves with the party that has entered on this lease. */
    leave(leaseId: bigint, abortAfterMs: number | undefined): Promise<Outcome<void>> {
      const [, party] = [...parties].find(([session]) => session.leaseId === leaseId) ?? [];
      if (party === undefined) throw new RangeError(`no party on lease ${leaseId}`);
      return outcomeOf(client, () => party.leave(limits(abortAfterMs)));
    },
  };
}
