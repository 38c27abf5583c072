/** A lock of a LockManager as something held: what runs while it is held ends when it is given back. */
import type { LockManager, LockRequestOptions, WebLock } from 'conclave';

import type { Held } from './attempt.js';

/** Resolves with what is held; undefined when it was not available. */
export function request(
  manager: LockManager,
  name: string,
  options: LockRequestOptions,
): Promise<Held | undefined> {
  return new Promise((resolve, reject) => {
    const requested = manager.request(name, options, (lock: WebLock | null) => {
      if (lock === null) {
        resolve(undefined);
        return undefined;
      }
      return new Promise<void>((done) => {
        const unlock = async (): Promise<void> => {
          done();
          await requested;
        };
        resolve(heldOf(lock, unlock));
      });
    });
    requested.catch(reject);
  });
}

function heldOf(lock: WebLock, unlock: () => Promise<void>): Held {
  const [guard] = lock.guard();
  const { createRevision = 0n, key } = guard?.wire ?? {};
  return {
    createRevision,
    fencingToken: lock.fencingToken,
    get held() {
      return lock.held;
    },
    key: Buffer.from(key ?? []).toString(),
    signal: lock.signal,
    txn: (spec) => lock.txn(spec),
    unlock,
    get wasLost() {
      return lock.signal.aborted;
    },
  };
}
