import { Mutex } from '../mutex/mutex.js';
import { EXIT_CODES } from './exit-codes.js';
import { guard } from './guard.js';
import { GUARD_FLAGS, GUARD_NOTES, type GuardFlag, readGuardRequest } from './guard-request.js';
import { type Page, readArgs } from './usage.js';

export const LOCK_PAGE: Page<GuardFlag> = {
  name: 'lock',
  usage: ['lock [OPTION …] NAME -- COMMAND [ARGUMENT …]', 'lock [OPTION …] NAME'],
  about: `Runs the command while holding the lock NAME, and exits as it does. Without a command: prints our key and holds
the lock until interrupted. Excludes "etcdctl lock NAME" and Go's concurrency.Mutex of the same name.`,
  flags: GUARD_FLAGS,
  notes: `${GUARD_NOTES}\n\n${EXIT_CODES}`,
};

/** `conclave lock`. Resolves with the exit code. */
export async function lock(argv: readonly string[]): Promise<number> {
  const request = readGuardRequest('lock', readArgs(LOCK_PAGE, argv));
  return guard(request, async (session, limits) => {
    const mutex = new Mutex(session, request.name);
    return limits.timeoutMs === 0 ? mutex.tryLock({ signal: limits.signal }) : mutex.lock(limits);
  });
}
