/** Attempts whose outcome may be unknown: what they may have written is removed when they are given up. */
import { hasCode } from '../errors/conclave-error.js';
import type { Session } from '../session/session.js';
import { orAborted, waitAtMost } from '../util/abort.js';
import { type Abandoned, sweeperOf } from './sweeper.js';

/** How long a caller who gave up waits for the key to be removed; the removal goes on after that. */
const CLEAN_UP_MS = 3000;

/**
 * Runs `take`. When it is given up, or nobody can tell what came of it, removes what it may have written; the removal
 * goes on after 3 s, until it is confirmed or the session ends, while the caller has its rejection. `take` says when it
 * sends its request again: the first one may then arrive when what it took has long been given back.
 */
export async function attempt<T>(
  session: Session,
  claims: readonly Abandoned[],
  signal: AbortSignal,
  take: (onRepeat: () => void) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const sweeper = sweeperOf(session);
  try {
    for (const { key } of claims) await sweeper.takeUp(key, signal);
  } catch (error) {
    putDown(session, claims);
    throw error;
  }
  const taking = take(() => {
    for (const claim of claims) sweeper.suspect(claim);
  });
  try {
    return await orAborted(taking, signal);
  } catch (error) {
    if (hasCode(error, 'LEASE_NOT_FOUND')) session.leaseIsGone();
    if (signal.aborted || hasCode(error, 'UNKNOWN_OUTCOME')) {
      await withinLimit(session, Promise.all(claims.map((claim) => sweeper.sweep(claim, taking))));
    } else {
      putDown(session, claims);
    }
    session.throwIfEnded();
    throw error;
  }
}

/** Marks the keys as nobody's: the attempt has written none of them. */
export function putDown(session: Session, claims: readonly Abandoned[]): void {
  const sweeper = sweeperOf(session);
  for (const { key } of claims) sweeper.putDown(key);
}

/** Waits for a clean-up, but not longer than its limit, and whatever comes of it. */
export async function withinLimit(session: Session, cleanUp: Promise<unknown>): Promise<void> {
  await waitAtMost(session.client.clock, CLEAN_UP_MS, cleanUp);
}
