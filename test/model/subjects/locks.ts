/** What a process of the locks' model does: sessions by name, holds by number. */
import {
  type Client,
  Election,
  hasCode,
  type Hold,
  type Leadership,
  LockManager,
  op,
  type ReadLock,
  Semaphore,
  type WriteLock,
} from 'conclave';

import type { Operations } from '../fleet.js';
import { type Outcome, outcomeOf } from '../window.js';
import { ask, type Held, limits, locked, type Want } from './ask.js';
import { Numbered } from './numbered.js';
import { Sessions, sessionOperations } from './sessions.js';

/** What was granted. */
export interface Granted {
  readonly hold: number;
  readonly keys: readonly string[];
  readonly token: bigint;
}

/** What a manager's query tells. */
export interface Query {
  readonly revision: bigint;
  /** First those that are held. */
  readonly locks: readonly { readonly key: string; readonly mode: string; readonly held: boolean }[];
}

function isRead(hold: Hold | undefined): hold is ReadLock {
  return hold !== undefined && 'upgrade' in hold;
}

function isWrite(hold: Hold | undefined): hold is WriteLock {
  return hold !== undefined && 'downgrade' in hold;
}

function leads(hold: Hold | undefined): hold is Leadership {
  return hold !== undefined && 'proclaim' in hold;
}

/** The commands. */
export function operations(client: Client): Operations {
  const sessions = new Sessions(client);
  const holds = new Numbered<Held>('hold');

  function granted(held: Held): Granted {
    const { keys, token } = held;
    return { hold: holds.add(held), keys, token };
  }

  return {
    ...sessionOperations(sessions),

    async acquire(session: string, want: Want): Promise<Granted | undefined> {
      const hold = await ask(await sessions.of(session), want);
      return hold && granted(hold);
    },

    /** Writes under a hold; the revision of the write, or undefined when it was refused. */
    async write(hold: number, key: string): Promise<bigint | undefined> {
      const under = holds.get(hold);
      try {
        const { revision } = await under.txn({ then: [op.put(key, String(under.token))] });
        return revision;
      } catch (error) {
        if (hasCode(error, 'NOT_HELD')) return undefined;
        throw error;
      }
    },

    async upgrade(hold: number, abortAfterMs: number | undefined): Promise<Granted | undefined> {
      const found = holds.get(hold).hold;
      if (!isRead(found)) throw new TypeError('only a read lock is upgraded');
      const upgraded = locked(await found.upgrade(limits(abortAfterMs)));
      holds.delete(hold);
      return upgraded && granted(upgraded);
    },

    async downgrade(hold: number): Promise<Granted | undefined> {
      const found = holds.get(hold).hold;
      if (!isWrite(found)) throw new TypeError('only a write lock is downgraded');
      const downgraded = locked(await found.downgrade());
      holds.delete(hold);
      return downgraded && granted(downgraded);
    },

    async proclaim(hold: number, value: string): Promise<void> {
      const found = holds.get(hold).hold;
      if (!leads(found)) throw new TypeError('only a leader proclaims');
      await found.proclaim(value);
    },

    async release(hold: number): Promise<void> {
      const found = holds.get(hold);
      holds.delete(hold);
      await found.giveBack();
    },

    async resize(session: string, name: string, limit: number, to: number): Promise<void> {
      await new Semaphore(await sessions.of(session), name, { limit }).resize(to);
    },

    async query(session: string, prefix: string): Promise<Query> {
      const { held, pending, revision } = await new LockManager(await sessions.of(session), {
        prefix,
      }).query();
      const infos = [
        ...held.map((lock) => ({ held: true, lock })),
        ...pending.map((lock) => ({ held: false, lock })),
      ];
      return { locks: infos.map(({ held, lock: { key, mode } }) => ({ held, key, mode })), revision };
    },

    /** Observes an election for so many changes, and tells the revisions of what it saw; 0n is "nobody leads". */
    async observe(session: string, name: string, most: number): Promise<Outcome<readonly bigint[]>> {
      const election = new Election(await sessions.of(session), name);
      return outcomeOf(client, async () => {
        const seen: bigint[] = [];
        // At the end of a run nothing changes any more.
        const signal = AbortSignal.timeout(1000);
        try {
          for await (const leader of election.observe({ signal })) {
            seen.push(leader?.modRevision ?? 0n);
            if (seen.length === most) break;
          }
        } catch (error) {
          if (!signal.aborted) throw error;
        }
        return seen;
      });
    },
  };
}
