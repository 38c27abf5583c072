import { readOwner } from '../ticket/owner.js';
import type { View } from './follow.js';

/** A party as the store has it. */
export interface SeenParty {
  readonly key: string;
  readonly createRevision: bigint;
  readonly leaseId: bigint | undefined;
  /** The count it goes by; undefined when its value is not one of ours. */
  readonly count: number | undefined;
}

/** The latest full round. */
export interface Ready {
  /** The create revision of the round's last party; 0n before the first round. */
  readonly revision: bigint;
  /** The revision of the key that says so; 0n: it is not there. */
  readonly modRevision: bigint;
}

/** The parties, inside or waiting, in the order in which they came. */
export function partiesIn(view: View, prefix: string): SeenParty[] {
  const parties: SeenParty[] = [];
  for (const kv of view.keys.values()) {
    if (!kv.key.startsWith(prefix)) continue;
    const { count } = readOwner(kv) as { readonly count?: unknown };
    parties.push({
      count: typeof count === 'number' ? count : undefined,
      createRevision: kv.createRevision,
      key: kv.key,
      leaseId: kv.leaseId,
    });
  }
  return parties.sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
}

/** Which round was full last. */
export function readyIn(view: View, key: string): Ready {
  const kv = view.keys.get(key);
  if (kv === undefined) return { modRevision: 0n, revision: 0n };
  const text = kv.string();
  return { modRevision: kv.modRevision, revision: /^\d+$/.test(text) ? BigInt(text) : 0n };
}
