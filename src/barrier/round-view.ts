import type { KeyValue } from '../etcd/kv/key-value.js';
import { readOwner } from '../ticket/owner.js';
import type { View } from './follow.js';

/** A party as the store has it. */
export interface SeenParty {
  readonly key: string;
  readonly createRevision: bigint;
  /** The count it goes by; undefined when its value is not one of ours. */
  readonly count: number | undefined;
}

/** The latest full round. */
export interface Ready {
  /** The create revision of the round's first party; 0n before the first round, as are the others. */
  readonly first: bigint;
  /** The create revision of the round's last party: the round's number. */
  readonly last: bigint;
  /** How many parties it has: those of this count from the first to the last. */
  readonly count: number;
  /** The revision of the key that says so; 0n: it is not there. */
  readonly modRevision: bigint;
}

/** The parties, inside or waiting, in the order in which they came. */
export function partiesIn(view: View, prefix: string): SeenParty[] {
  const parties: SeenParty[] = [];
  for (const kv of view.keys.values()) {
    if (!kv.key.startsWith(prefix)) continue;
    parties.push(seenParty(kv));
  }
  return parties.sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
}

/** What a party's key says of it. */
export function seenParty(kv: KeyValue): SeenParty {
  const { count } = readOwner(kv) as { readonly count?: unknown };
  return {
    count: typeof count === 'number' ? count : undefined,
    createRevision: kv.createRevision,
    key: kv.key,
  };
}

/** Which round was full last. */
export function readyIn(view: View, key: string): Ready {
  return readyOf(view.keys.get(key));
}

/** Which round was full last, by the key that says so; undefined: none. */
export function readyOf(kv: KeyValue | undefined): Ready {
  const [, first = '0', last = '0', count = '0'] = /^(\d+) (\d+) (\d+)$/.exec(kv?.string() ?? '') ?? [];
  return {
    count: Number(count),
    first: BigInt(first),
    last: BigInt(last),
    modRevision: kv?.modRevision ?? 0n,
  };
}

/** Whether the party is one of that round. Others of another count may have come between its first and its last. */
export function isInside({ count, createRevision }: SeenParty, round: Ready): boolean {
  return createRevision >= round.first && createRevision <= round.last && count === round.count;
}
