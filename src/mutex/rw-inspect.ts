import type { Inspection, LineEntry } from '../ticket/inspect.js';
import { readersOrWriter, upgradeKeyOf } from './rw-policy.js';
import { type LockMode, tagOf } from './tag.js';

/** A key in the line of a read-write lock. */
export interface LockEntry extends LineEntry {
  /** How it holds, or wants to. A key of another client holds as a writer. */
  readonly mode: LockMode;
}

/** How the line of a read-write lock is reported. */
export function rwInspection(name: string): Inspection<LockEntry> {
  return {
    besideKey: upgradeKeyOf(name),
    describe: (entry, kv) => ({ ...entry, mode: tagOf(kv).mode }),
    name,
    policy: readersOrWriter,
  };
}
