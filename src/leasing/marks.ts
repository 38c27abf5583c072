/** By which marks the Leasings of one session know their ownership keys: all that its lease has besides is nobody's any more. */
import type { Session } from '../session/session.js';

const bySession = new WeakMap<Session, Set<string>>();

/** A Leasing owns keys on the session, or will. Safe to call twice. */
export function addMark(session: Session, mark: string): void {
  const marks = bySession.get(session) ?? new Set();
  bySession.set(session, marks);
  marks.add(mark);
}

/** It is closed. */
export function removeMark(session: Session, mark: string): void {
  bySession.get(session)?.delete(mark);
}

/** Whether a Leasing that is not closed has it. */
export function hasMark(session: Session, mark: string): boolean {
  return bySession.get(session)?.has(mark) === true;
}
