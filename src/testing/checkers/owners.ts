/** Whether each partition has one owner at most, each with a greater token than all before it, and each tick is run once at most. */
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { freezesOf } from './holds.js';
import { firstAt, inOrder, type Placed, push } from './places.js';

/**
 * Rules: `two-owners` (as owners know; one that is frozen is excused), `owner-token` (not above that of who was told before,
 * unless its process was frozen then), `owner-write` (committed before its token, or when there was a greater one),
 * `ticked-twice`.
 */
export function checkOwners(history: readonly HistoryRecord[]): Violation[] {
  const freezes = freezesOf(history);
  const partitions = new Map<string, Tenure[]>();
  const writes = new Map<string, Placed<'ownedWrite'>[]>();
  const known = new Map<string, Tenure>();
  const running = new Map<string, Tenure[]>();
  const ticks = new Map<string, Placed<'ticked'>>();
  const violations: Violation[] = [];
  for (const [index, record] of history.entries()) {
    if (record.is === 'crashed' || record.is === 'frozen') {
      for (const tenure of running.get(record.process) ?? []) tenure.until = Math.min(tenure.until, index);
      running.delete(record.process);
    } else if (record.is === 'owned') {
      const isFrozen = (freezes.get(record.process) ?? []).some(([from, to]) => from < index && index < to);
      const tenure: Tenure = { index, record, until: isFrozen ? index : Infinity };
      push(partitions, partitionOf(record), tenure);
      push(running, record.process, tenure);
      known.set(tenureOf(record), tenure);
    } else if (record.is === 'disowned') {
      const tenure = known.get(tenureOf(record));
      if (tenure !== undefined) tenure.until = Math.min(tenure.until, index);
    } else if (record.is === 'ownedWrite') {
      push(writes, partitionOf(record), { index, record });
    } else if (record.is === 'ticked') {
      violations.push(...ticked(ticks, { index, record }));
    }
  }
  for (const tenures of partitions.values()) violations.push(...beside(tenures), ...tokens(tenures, freezes));
  for (const [partition, its] of writes) violations.push(...fenced(partitions.get(partition) ?? [], its));
  return violations;
}

interface Tenure extends Placed<'owned'> {
  /** Where its owner could do nothing with it any more. */
  until: number;
}

function partitionOf({ name, partition }: { readonly name: string; readonly partition: string }): string {
  return JSON.stringify([name, partition]);
}

function tenureOf({ name, partition, process, token }: RecordOf<'owned' | 'disowned'>): string {
  return JSON.stringify([name, partition, process, String(token)]);
}

function ticked(ticks: Map<string, Placed<'ticked'>>, placed: Placed<'ticked'>): Violation[] {
  const { name, process, tick } = placed.record;
  const key = JSON.stringify([name, tick]);
  const before = ticks.get(key);
  if (before === undefined) {
    ticks.set(key, placed);
    return [];
  }
  const message = `${name}: ${process} ran tick ${tick}, which ${before.record.process} had run`;
  return [{ at: inOrder(before, placed), message, rule: 'ticked-twice' }];
}

function beside(tenures: readonly Tenure[]): Violation[] {
  let last: Tenure | undefined;
  return tenures.flatMap((one): Violation[] => {
    const other = last;
    if (other === undefined || one.until > other.until) last = one;
    if (other === undefined || other.until <= one.index || one.until <= one.index) return [];
    const { name, partition, process } = one.record;
    const message = `${name}: ${process} owns ${partition} (token ${one.record.token}) while ${other.record.process} still does (token ${other.record.token})`;
    return [{ at: inOrder(other, one), message, rule: 'two-owners' }];
  });
}

function tokens(tenures: readonly Tenure[], freezes: ReturnType<typeof freezesOf>): Violation[] {
  let highest: Tenure | undefined;
  const seen = new Map<bigint, Tenure>();
  return tenures.flatMap((one): Violation[] => {
    const { name, partition, process, token } = one.record;
    const top = highest;
    const same = seen.get(token);
    seen.set(token, one);
    if (top === undefined || token > top.record.token) highest = one;
    const wasFrozen = (freezes.get(process) ?? []).some(
      ([from, to]) => top !== undefined && from < top.index && top.index < to,
    );
    const earlier = same ?? (top !== undefined && top.record.token > token && !wasFrozen ? top : undefined);
    if (earlier === undefined) return [];
    const message = `${name}: ${process} owns ${partition} with token ${token}, which is not above ${earlier.record.token} of ${earlier.record.process} before`;
    return [{ at: inOrder(earlier, one), message, rule: 'owner-token' }];
  });
}

/** A write is committed after its own token, and before any greater one. */
function fenced(tenures: readonly Tenure[], writes: readonly Placed<'ownedWrite'>[]): Violation[] {
  const byToken = tenures.toSorted((one, other) => Number(one.record.token - other.record.token));
  return writes.flatMap((write): Violation[] => {
    const { name, partition, process, revision, token } = write.record;
    const next = byToken[firstAt(byToken.length, (at) => (byToken[at]?.record.token ?? 0n) > token)];
    const isLate = next !== undefined && revision >= next.record.token;
    if (!isLate && revision > token) return [];
    const why = isLate ? `when ${next.record.process} owned it since ${next.record.token}` : 'before it did';
    const message = `${name}: ${process} wrote to ${partition} at ${revision} under token ${token}, ${why}`;
    return [{ at: inOrder(isLate ? next : undefined, write), message, rule: 'owner-write' }];
  });
}
