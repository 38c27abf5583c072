/** What a worker of the locks' model does: sessions by name, holds by number. */
import {
  type Client,
  type Hold,
  hasCode,
  type MultiLock,
  MultiMutex,
  Mutex,
  op,
  type ReadLock,
  RWLock,
  Semaphore,
  Session,
  type WriteLock,
} from 'conclave';

import type { Operations } from '../fleet.js';

/** What is asked for. */
export interface Want {
  readonly kind: 'mutex' | 'read' | 'write' | 'permit' | 'multi';
  readonly names: readonly string[];
  readonly weight: number;
  readonly limit: number;
  /** Not to wait. */
  readonly atOnce: boolean;
  /** Aborts the wait. */
  readonly abortAfterMs: number | undefined;
}

/** What was granted. */
export interface Granted {
  readonly hold: number;
  readonly keys: readonly string[];
  readonly token: bigint;
}

/** A hold, and how to give it back. */
interface Held {
  readonly hold: Hold;
  giveBack(): Promise<void>;
}

/** A lock, if it was granted. */
function lock(hold: (Hold & { unlock(): Promise<void> }) | undefined): Held | undefined {
  return hold === undefined ? undefined : { giveBack: () => hold.unlock(), hold };
}

function isRead(hold: Hold): hold is ReadLock {
  return 'upgrade' in hold;
}

function isWrite(hold: Hold): hold is WriteLock {
  return 'downgrade' in hold;
}

/** A wait's options; the abort is a plain timer, since nothing hangs on when it fires. */
function options({ abortAfterMs }: Pick<Want, 'abortAfterMs'>): { signal?: AbortSignal } {
  return abortAfterMs === undefined ? {} : { signal: AbortSignal.timeout(abortAfterMs) };
}

async function ask(session: Session, want: Want): Promise<Held | undefined> {
  const [name = ''] = want.names;
  const limits = options(want);
  switch (want.kind) {
    case 'mutex': {
      const mutex = new Mutex(session, name);
      return lock(want.atOnce ? await mutex.tryLock(limits) : await mutex.lock(limits));
    }
    case 'read': {
      const rw = new RWLock(session, name);
      return lock(want.atOnce ? await rw.tryReadLock(limits) : await rw.readLock(limits));
    }
    case 'write': {
      const rw = new RWLock(session, name);
      return lock(want.atOnce ? await rw.tryWriteLock(limits) : await rw.writeLock(limits));
    }
    case 'permit': {
      const semaphore = new Semaphore(session, name, { limit: want.limit });
      const weighted = { ...limits, weight: want.weight };
      const permit = want.atOnce ? await semaphore.tryAcquire(weighted) : await semaphore.acquire(weighted);
      return permit === undefined ? undefined : { giveBack: () => permit.release(), hold: permit };
    }
    case 'multi': {
      const multi = new MultiMutex(session, want.names);
      return lock(want.atOnce ? await multi.tryLock(limits) : await multi.lock(limits));
    }
  }
}

/** The commands. */
export function operations(client: Client): Operations {
  const sessions = new Map<string, Promise<Session>>();
  const holds = new Map<number, Held>();
  let count = 0;

  /** The session of that name; another one when it has ended. */
  async function sessionOf(name: string): Promise<Session> {
    for (;;) {
      const opening = sessions.get(name) ?? Session.open(client, { label: name, ttlSeconds: 2 });
      sessions.set(name, opening);
      const session = await opening;
      if (session.alive) return session;
      if (sessions.get(name) === opening) sessions.delete(name);
    }
  }

  function granted(held: Held): Granted {
    const { hold } = held;
    holds.set(++count, held);
    const keys = 'keys' in hold ? (hold as MultiLock).keys : [hold.key];
    return { hold: count, keys, token: hold.fencingToken };
  }

  function held(hold: number): Held {
    const found = holds.get(hold);
    if (found === undefined) throw new RangeError(`no hold ${hold}`);
    return found;
  }

  return {
    async acquire(session: string, want: Want): Promise<Granted | undefined> {
      const hold = await ask(await sessionOf(session), want);
      return hold && granted(hold);
    },

    /** Writes under a hold; the revision of the write, or undefined when it was refused. */
    async write(hold: number, key: string): Promise<bigint | undefined> {
      const under = held(hold).hold;
      try {
        const { revision } = await under.txn({ then: [op.put(key, String(under.fencingToken))] });
        return revision;
      } catch (error) {
        if (hasCode(error, 'NOT_HELD')) return undefined;
        throw error;
      }
    },

    async upgrade(hold: number, abortAfterMs: number | undefined): Promise<Granted | undefined> {
      const found = held(hold).hold;
      if (!isRead(found)) throw new TypeError('only a read lock is upgraded');
      const upgraded = lock(await found.upgrade(options({ abortAfterMs })));
      holds.delete(hold);
      return upgraded && granted(upgraded);
    },

    async downgrade(hold: number): Promise<Granted | undefined> {
      const found = held(hold).hold;
      if (!isWrite(found)) throw new TypeError('only a write lock is downgraded');
      const downgraded = lock(await found.downgrade());
      holds.delete(hold);
      return downgraded && granted(downgraded);
    },

    async release(hold: number): Promise<void> {
      const found = held(hold);
      holds.delete(hold);
      await found.giveBack();
    },

    async resize(session: string, name: string, limit: number, to: number): Promise<void> {
      await new Semaphore(await sessionOf(session), name, { limit }).resize(to);
    },

    /** The lease is revoked from outside: all that is held on it is lost. */
    async lose(session: string): Promise<void> {
      await client.lease.revoke((await sessionOf(session)).leaseId);
    },

    async close(): Promise<void> {
      for (const session of sessions.values()) await (await session).close();
    },
  };
}
