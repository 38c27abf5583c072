// In which order jobs are first claimed: by group, by priority, by place.
import type { Violation } from './history.js';
import type { Job } from './job-life.js';
import { firstAt, inOrder, type Placed, push } from './places.js';

/** A job of which it is known when it was pushed; not claimed: undefined. */
interface Entry {
  readonly name: string;
  readonly pushed: Placed<'pushed'>;
  readonly pushedAt: bigint;
  readonly claimed: Placed<'claimed'> | undefined;
}

/** Those that were certainly pushed; not those that somebody removed before anybody claimed them. */
function entriesOf(jobs: ReadonlyMap<string, Job>): Entry[] {
  return [...jobs].flatMap(([name, { burials, claims, pushed }]): Entry[] => {
    const pushedAt = pushed?.record.revision;
    if (pushed === undefined || pushedAt === undefined) return [];
    if (burials.length > 0 && claims.length === 0) return [];
    return [{ claimed: claims[0], name, pushed, pushedAt }];
  });
}

/** Whether the jobs of a group are first claimed in the order in which they were pushed. */
export function groupOrder(group: string, jobs: ReadonlyMap<string, Job>): Violation[] {
  const first = entriesOf(jobs).filter(
    ({ claimed, pushed }) => pushed.record.group === group && claimed !== undefined,
  );
  first.sort((one, other) => Number(claimedAt(one) - claimedAt(other)));
  return first.flatMap((one, at): Violation[] => {
    const before = first[at - 1];
    if (before === undefined || before.pushedAt <= one.pushedAt) return [];
    const message = `${group}: ${before.name} was claimed before ${one.name}, which was pushed earlier`;
    return [{ at: inOrder(before.claimed, one.claimed), message, rule: 'group-order' }];
  });
}

const NEVER = 2n ** 63n;

function claimedAt({ claimed }: Entry): bigint {
  return claimed?.record.revision ?? NEVER;
}

/** Nobody is overtaken by more than so many of his priority that have later places, while he waits. */
export function overtaken(jobs: ReadonlyMap<string, Job>, most: number): Violation[] {
  const lines = new Map<number, Entry[]>();
  for (const entry of entriesOf(jobs))
    if (entry.pushed.record.place !== undefined) push(lines, entry.pushed.record.priority ?? 0, entry);
  return [...lines.values()].flatMap((line) => {
    const revisions = line.map(claimedAt).sort((one, other) => (one < other ? -1 : 1));
    const counts = new Counts(revisions.length);
    const upTo = (revision: bigint): number =>
      counts.below(firstAt(revisions.length, (at) => (revisions[at] ?? NEVER) >= revision));
    line.sort((one, other) => placeOf(other) - placeOf(one));
    return line.flatMap((entry): Violation[] => {
      const by = upTo(claimedAt(entry)) - upTo(entry.pushedAt);
      if (entry.claimed !== undefined)
        counts.add(firstAt(revisions.length, (at) => (revisions[at] ?? NEVER) >= claimedAt(entry)));
      if (by <= most) return [];
      const message = `${entry.name} (place ${placeOf(entry)}) was overtaken by ${by} jobs of later places, and may be by ${most}`;
      return [{ at: inOrder(entry.pushed, entry.claimed), message, rule: 'overtaken' }];
    });
  });
}

function placeOf({ pushed }: Entry): number {
  return pushed.record.place ?? 0;
}

/** None is first claimed while one of a greater priority waits that was never delayed. */
export function priorities(jobs: ReadonlyMap<string, Job>): Violation[] {
  const entries = entriesOf(jobs);
  const steps = entries.flatMap((entry) => {
    const isDelayed = (jobs.get(entry.name)?.delays.length ?? 0) > 0;
    const step = isDelayed ? [] : [{ at: entry.pushedAt, by: 1, entry }];
    return entry.claimed === undefined
      ? step
      : [...step, { at: claimedAt(entry), by: isDelayed ? 0 : -1, entry }];
  });
  steps.sort((one, other) => (one.at === other.at ? one.by - other.by : one.at < other.at ? -1 : 1));
  const waiting = new Map<number, Set<Entry>>();
  return steps.flatMap(({ by, entry }): Violation[] => {
    const own = entry.pushed.record.priority ?? 0;
    const line = waiting.get(own) ?? new Set();
    waiting.set(own, line);
    if (by > 0) {
      line.add(entry);
      return [];
    }
    line.delete(entry);
    for (const [priority, [first]] of waiting) {
      if (priority <= own || first === undefined) continue;
      const message = `${entry.name} (priority ${own}) was claimed at ${claimedAt(entry)}, when ${first.name} (priority ${priority}) was waiting`;
      return [{ at: inOrder(first.pushed, entry.claimed), message, rule: 'priority' }];
    }
    return [];
  });
}

/** How many there are below a place; a Fenwick tree. */
class Counts {
  readonly #tree: number[];

  constructor(length: number) {
    this.#tree = Array.from({ length: length + 1 }, () => 0);
  }

  add(place: number): void {
    for (let at = place + 1; at < this.#tree.length; at += at & -at)
      this.#tree[at] = (this.#tree[at] ?? 0) + 1;
  }

  below(place: number): number {
    let sum = 0;
    for (let at = place; at > 0; at -= at & -at) sum += this.#tree[at] ?? 0;
    return sum;
  }
}
