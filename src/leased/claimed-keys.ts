/** Which keys the leased keys of one session have: what is bound to its lease is told apart by nothing else. */
import { ConclaveError } from '../errors/conclave-error.js';
import type { Session } from '../session/session.js';

const bySession = new WeakMap<Session, Set<string>>();

/** Takes a key, for as long as the returned function is not called. Throws `ALREADY_HELD`. */
export function claimKey(session: Session, key: string): () => void {
  const keys = bySession.get(session) ?? new Set();
  bySession.set(session, keys);
  if (keys.has(key)) {
    const text = `leased key ${JSON.stringify(key)}: another one of this session has it; close that first`;
    throw new ConclaveError('ALREADY_HELD', text, { key });
  }
  keys.add(key);
  return () => void keys.delete(key);
}

/** Whether a leased key of the session has it. */
export function isClaimed(session: Session, key: string): boolean {
  return bySession.get(session)?.has(key) === true;
}
