/** Asking for each kind of hold, so that all of them look alike to the model. */
import {
  Election,
  type Hold,
  LockManager,
  type LockRequestOptions,
  type MultiLock,
  MultiMutex,
  Mutex,
  RWLock,
  Semaphore,
  type Session,
  type TxnResult,
  type TxnSpec,
} from 'conclave';

/** What is asked for. */
export interface Want {
  readonly kind: 'mutex' | 'read' | 'write' | 'permit' | 'multi' | 'shared' | 'exclusive' | 'lead';
  readonly names: readonly string[];
  readonly weight: number;
  readonly limit: number;
  /** Not to wait. */
  readonly atOnce: boolean;
  /** Aborts the wait. */
  readonly abortAfterMs: number | undefined;
}

/** A hold, and how to give it back. */
export interface Held {
  readonly keys: readonly string[];
  readonly token: bigint;
  /** The handle; undefined when it is a manager's lock. */
  readonly hold?: Hold;
  txn(spec: TxnSpec): Promise<TxnResult>;
  giveBack(): Promise<void>;
}

/** A wait's options; the abort is a plain timer, since nothing hangs on when it fires. */
export function limits(abortAfterMs: number | undefined): { signal?: AbortSignal } {
  return abortAfterMs === undefined ? {} : { signal: AbortSignal.timeout(abortAfterMs) };
}

/** Asks for what is wanted. Undefined: it could not be had at once. */
export async function ask(session: Session, want: Want): Promise<Held | undefined> {
  const [name = ''] = want.names;
  const { atOnce, weight } = want;
  const options = limits(want.abortAfterMs);
  switch (want.kind) {
    case 'mutex': {
      const mutex = new Mutex(session, name);
      return locked(await (atOnce ? mutex.tryLock(options) : mutex.lock(options)));
    }
    case 'read': {
      const rw = new RWLock(session, name);
      return locked(await (atOnce ? rw.tryReadLock(options) : rw.readLock(options)));
    }
    case 'write': {
      const rw = new RWLock(session, name);
      return locked(await (atOnce ? rw.tryWriteLock(options) : rw.writeLock(options)));
    }
    case 'permit': {
      const semaphore = new Semaphore(session, name, { limit: want.limit });
      const weighted = { ...options, weight };
      const permit = await (atOnce ? semaphore.tryAcquire(weighted) : semaphore.acquire(weighted));
      return held(permit, () => permit?.release());
    }
    case 'multi': {
      const multi = new MultiMutex(session, want.names);
      return locked(await (atOnce ? multi.tryLock(options) : multi.lock(options)));
    }
    case 'shared':
    case 'exclusive':
      return managed(session, name, { ...options, ifAvailable: atOnce, mode: want.kind });
    case 'lead': {
      const election = new Election(session, name);
      const value = session.label ?? '';
      const leadership = await (atOnce
        ? election.tryCampaign(value, options)
        : election.campaign(value, options));
      return held(leadership, () => leadership?.resign());
    }
  }
}

/** A handle, if it was granted. */
export function locked(hold: (Hold & { unlock(): Promise<void> }) | undefined): Held | undefined {
  return held(hold, () => hold?.unlock());
}

function held(hold: Hold | undefined, giveBack: () => Promise<void> | undefined): Held | undefined {
  return (
    hold && {
      giveBack: async () => giveBack(),
      hold,
      keys: 'keys' in hold ? (hold as MultiLock).keys : [hold.key],
      token: hold.fencingToken,
      txn: (spec) => hold.txn(spec),
    }
  );
}

/** A lock of the manager whose prefix is the first part of the name. */
function managed(session: Session, name: string, options: LockRequestOptions): Promise<Held | undefined> {
  const [prefix = '', ...rest] = name.split('/');
  const manager = new LockManager(session, { prefix });
  return new Promise((resolve, reject) => {
    let done: () => void = () => undefined;
    const over = new Promise<void>((settle) => (done = settle));
    const requested = manager.request(rest.join('/'), options, (lock) => {
      if (lock === null) {
        resolve(undefined);
        return undefined;
      }
      const [guard] = lock.guard();
      resolve({
        giveBack: async () => {
          done();
          await requested;
        },
        keys: [Buffer.from(guard?.wire.key ?? []).toString()],
        token: lock.fencingToken,
        txn: (spec) => lock.txn(spec),
      });
      return over;
    });
    requested.catch(reject);
  });
}
