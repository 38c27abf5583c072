// When a job may be claimed, and for how long it is kept: delays, pauses, deaths, and jobs that are done.
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import type { Job } from './job-life.js';
import { firstAt, inOrder, type Shown } from './places.js';

/** None is claimed, nor becomes due, before its time. */
export function early(name: string, { claims, delays }: Job, skewMs: number): Violation[] {
  const isEarly = (atMs: number, dueMs: number | undefined): boolean =>
    dueMs === undefined || atMs + skewMs < dueMs;
  const violations: Violation[] = [];
  const violation = (message: string, ...at: readonly Shown[]): void => {
    violations.push({ at: inOrder(...at), message: `${name} ${message}`, rule: 'claimed-early' });
  };
  const byRevision = delays.toSorted((one, other) => Number(one.record.revision - other.record.revision));
  for (const [at, due] of byRevision.entries()) {
    const delayed = byRevision[at - 1];
    if (due.record.is !== 'due' || delayed?.record.is !== 'delayed' || delayed.record.dueMs === undefined)
      continue;
    if (isEarly(due.record.atMs, delayed.record.dueMs))
      violation(
        `was due at ${due.record.atMs} ms, and was to be at ${delayed.record.dueMs} ms`,
        delayed,
        due,
      );
  }
  for (const claim of claims) {
    const { atMs, claim: number, revision } = claim.record;
    const before =
      byRevision[firstAt(byRevision.length, (at) => (byRevision[at]?.record.revision ?? 0n) >= revision) - 1];
    if (before?.record.is !== 'delayed' || !isEarly(atMs, before.record.dueMs)) continue;
    const until = before.record.dueMs === undefined ? 'it was due' : `${before.record.dueMs} ms`;
    violation(
      `was claimed by claim ${number} at ${atMs} ms (revision ${revision}), before ${until}`,
      before,
      claim,
    );
  }
  return violations;
}

/** None is claimed once it is done, or dead and not retried. */
export function over(name: string, { burials, claims, commits, retries }: Job): Violation[] {
  const done = commits[0];
  return claims.flatMap((claim): Violation[] => {
    const { claim: number, revision } = claim.record;
    const before = <T extends Shown & { readonly record: { readonly revision?: bigint } }>(
      changes: readonly T[],
    ) => changes.findLast(({ record }) => record.revision !== undefined && record.revision < revision);
    const dead = before(burials);
    const isDead = (dead?.record.revision ?? -1n) > (before(retries)?.record.revision ?? -1n);
    const isDone = done !== undefined && revision > done.record.revision;
    if (!isDone && !isDead) return [];
    const since = isDone ? done : dead;
    const message = `${name} was claimed by claim ${number} at ${revision}, when it was ${isDone ? 'done' : 'dead'} since ${String(since?.record.revision)}`;
    return [{ at: inOrder(since, claim), message, rule: 'claimed-when-over' }];
  });
}

/** Nothing is claimed while the queue is paused. */
export function paused(history: readonly HistoryRecord[], jobs: ReadonlyMap<string, Job>): Violation[] {
  const changes = history.filter(
    (record): record is RecordOf<'paused' | 'resumed'> => record.is === 'paused' || record.is === 'resumed',
  );
  changes.sort((one, other) => Number(one.revision - other.revision));
  return [...jobs].flatMap(([name, { claims }]) =>
    claims.flatMap(({ record }): Violation[] => {
      const last =
        changes[firstAt(changes.length, (at) => (changes[at]?.revision ?? 0n) >= record.revision) - 1];
      if (last?.is !== 'paused') return [];
      const message = `${name} was claimed by claim ${record.claim} at ${record.revision}, and the queue was paused since ${last.revision}`;
      return [{ at: [last, record], message, rule: 'claimed-while-paused' }];
    }),
  );
}

/** A job that is done is there for as long as it is to be kept, whenever somebody lists what is there. */
export function forgotten(
  history: readonly HistoryRecord[],
  jobs: ReadonlyMap<string, Job>,
  skewMs: number,
): Violation[] {
  const kept = [...jobs].flatMap(
    ([
      name,
      {
        commits: [done],
      },
    ]) =>
      done?.record.keepMs === undefined
        ? []
        : [{ done, name, untilMs: done.record.atMs + done.record.keepMs }],
  );
  kept.sort((one, other) => one.done.index - other.done.index);
  const violations: Violation[] = [];
  let open: typeof kept = [];
  let next = 0;
  for (const [index, record] of history.entries()) {
    if (record.is !== 'jobs') continue;
    for (let one = kept[next]; one !== undefined && one.done.index < index; one = kept[++next])
      open.push(one);
    open = open.filter(({ untilMs }) => record.atMs + skewMs < untilMs);
    const there = new Set(record.jobs);
    for (const { done, name, untilMs } of open) {
      if (there.has(name)) continue;
      const message = `${name} was done at ${done.record.atMs} ms and is to be kept until ${untilMs} ms, and is gone at ${record.atMs} ms`;
      violations.push({ at: [done.record, record], message, rule: 'forgotten-early' });
    }
  }
  return violations;
}
