/** The ids of those who push to a queue, work on it, or do its upkeep: each is of one session, and of one life of it. */

import { leaseHex } from '../../etcd/lease/lease.js';
import type { Session } from '../../session/session.js';
import { chance } from '../../util/chance.js';

/** The ids of this session's life, as long as they are in use: what else bears its lease's name is of an earlier life. */
const ours = new WeakMap<Session, Set<string>>();

/** A new id: the lease and a part that nobody has used before. */
export function newClientId(session: Session): string {
  const id = `${clientIdsOf(session)}${chance.id(8)}`;
  ours.set(session, (ours.get(session) ?? new Set()).add(id));
  return id;
}

/** The keys of this id are gone, so nobody has to be told any more that it is ours. */
export function forgetClientId(session: Session, id: string): void {
  ours.get(session)?.delete(id);
}

/** How all ids of a session begin. */
export function clientIdsOf(session: Session): string {
  return `${leaseHex(session.leaseId)}.`;
}

/** Whether an id is of an earlier life of this session, which was resumed by its lease id since: it is nobody's now. */
export function isEarlierLife(session: Session, id: string): boolean {
  return id.startsWith(clientIdsOf(session)) && ours.get(session)?.has(id) !== true;
}
