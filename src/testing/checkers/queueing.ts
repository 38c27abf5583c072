/** Whether those who wait for a name are served in order, as long as they live, and leave nothing when they give up. */
import { checkMs, checkOptions } from '../../util/validate.js';
import type { HistoryRecord, Violation } from './history.js';
import { attemptsOf, freezesOf, type Attempt, type Held, holdsByName } from './holds.js';
import { excludes, limitsOf, weightOf } from './shares.js';

export interface QueueingOptions {
  /** How long a lease lasts in etcd, in milliseconds: after that nothing may be left of an attempt that was given up. */
  readonly ttlMs: number;
}

/** Rules: `fifo`, `dead-waiter-won`, `left-behind`. */
export function checkQueueing(history: readonly HistoryRecord[], options: QueueingOptions): Violation[] {
  checkOptions(options, ['ttlMs'], 'checkQueueing');
  checkMs(options.ttlMs, 'ttlMs');
  const attempts = attemptsOf(history);
  const freezes = freezesOf(history);
  const limits = limitsOf(history);
  const isFrozen = (process: string, index: number): boolean =>
    (freezes.get(process) ?? []).some(([from, to]) => from < index && to > index);
  const held = [...holdsByName(attempts).values()].flat();
  return [
    ...held.flatMap((one) => overtaken(one, attempts, limits.get(one.name)?.most ?? Infinity)),
    ...held.flatMap((one) => deadWinner(one, isFrozen)),
    ...leftBehind(history, attempts, options.ttlMs),
  ];
}

/** Who was ahead of a winner that it cannot hold beside, and waits still, or won only later. */
function overtaken(winner: Held, attempts: readonly Attempt[], most: number): Violation[] {
  const { held, name, queued } = winner;
  if (queued === undefined) return [];
  const passed = attempts.find(
    (other) =>
      other.name === name &&
      other.queued !== undefined &&
      other.queued.record.createRevision < queued.record.createRevision &&
      excludes(weightOf(winner), weightOf(other), most) &&
      isWaiting(other, held),
  );
  if (passed?.queued === undefined) return [];
  return [
    {
      rule: 'fifo',
      message: `${name}: attempt ${winner.attempt} (created at ${queued.record.createRevision}) won before attempt ${passed.attempt} (created at ${passed.queued.record.createRevision}), which was waiting`,
      at: [passed.queued.record, queued.record, held.record],
    },
  ];
}

/** Whether one in line certainly still was when another was first; one that gave up may have left at any time. */
function isWaiting({ crashed, gaveUp, gone, held, lossSignal }: Attempt, winner: Held['held']): boolean {
  const { token } = winner.record;
  if (held !== undefined) return held.record.token > token;
  const goneAt = gone?.record.revision;
  if (goneAt !== undefined) return goneAt > token;
  return [crashed, gaveUp, gone, lossSignal].every((end) => end === undefined);
}

/** One that won though its ticket was gone by then, or that its caller had been told was not to win any more. */
function deadWinner(
  { attempt, gaveUp, gone, held, name, process }: Held,
  isFrozen: (process: string, index: number) => boolean,
): Violation[] {
  const violation = (what: string, by: HistoryRecord): Violation => ({
    rule: 'dead-waiter-won',
    message: `${name}: attempt ${attempt} won with token ${held.record.token}, and ${what}`,
    at: [by, held.record],
  });
  if (gaveUp !== undefined && gaveUp.index < held.index)
    return [violation('had been given up', gaveUp.record)];
  if (gone === undefined) return [];
  const { revision } = gone.record;
  if (revision !== undefined && revision <= held.record.token)
    return [violation(`its ticket was gone at ${revision}`, gone.record)];
  // Its proof may be older than that; but a process that was awake knows that its time is over.
  const isLate = gone.record.byHand !== true && gone.index < held.index && !isFrozen(process, gone.index);
  return isLate ? [violation('its ticket was gone before it was told', gone.record)] : [];
}

/** Tickets that etcd has longer than one TTL after their attempts were given up. */
function leftBehind(
  history: readonly HistoryRecord[],
  attempts: readonly Attempt[],
  ttlMs: number,
): Violation[] {
  return attempts.flatMap(({ attempt, gaveUp, gone, held, name }): Violation[] => {
    if (gaveUp === undefined || held !== undefined) return [];
    const limit = gaveUp.record.atMs + ttlMs;
    const seen = history.find(
      (record) =>
        record.is === 'tickets' &&
        record.name === name &&
        record.atMs > limit &&
        record.attempts.includes(attempt),
    );
    const found = seen ?? (gone !== undefined && gone.record.atMs > limit ? gone.record : undefined);
    if (found === undefined) return [];
    const lateMs = found.atMs - gaveUp.record.atMs;
    return [
      {
        rule: 'left-behind',
        message: `${name}: attempt ${attempt} was given up, and its ticket was there until ${lateMs} ms later`,
        at: [gaveUp.record, found],
      },
    ];
  });
}
