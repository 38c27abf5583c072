import { nanoid } from 'nanoid';

import { leaseHex } from '../etcd/lease.js';
import { op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import type { Board } from './board.js';

const ours = new WeakMap<Session, Set<string>>();

/** A new name for somebody who pushes or works: the lease and a part that nobody has used before. */
export function newMember(session: Session): string {
  const member = `${leaseHex(session.leaseId)}.${nanoid(8)}`;
  ours.set(session, (ours.get(session) ?? new Set()).add(member));
  return member;
}

/**
 * A session resumed by its lease id keeps alive the workers of its earlier life, which nobody is any more. Removes them, so
 * that their jobs go back to their places, and that a remnant of that life can do nothing.
 */
export async function endEarlierLives(session: Session, board: Board): Promise<void> {
  const { client, layout, workers } = board;
  const prefix = `${leaseHex(session.leaseId)}.`;
  for (const member of [...workers]) {
    if (!member.startsWith(prefix) || ours.get(session)?.has(member) === true) continue;
    const then = [op.delete(layout.worker(member)), op.delete(layout.lane(member, 'work'))];
    await client.kv.txn({ then }, { idempotent: true });
  }
}
