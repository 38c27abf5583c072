/** Whether those who wait for a name are served in order, as long as they live, and leave nothing when they give up. */
import { checkMs, checkOptions } from '../../util/validate.js';
import type { HistoryRecord, Violation } from './history.js';
import { attemptsOf, freezesOf, type Attempt, type Held, holdsByName } from './holds.js';
import { Highest, type Placed, push } from './places.js';
import { excludes, limitsOf, weightOf } from './shares.js';

/** Options of `checkQueueing`. */
export interface QueueingOptions {
  /** How long a lease lasts in etcd, in milliseconds: after that nothing may be left of an attempt that was given up. */
  readonly ttlMs: number;
}

/** Rules: `fifo`, `dead-waiter-won`, `left-behind`. */
export function checkQueueing(history: readonly HistoryRecord[], options: QueueingOptions): Violation[] {
  checkOptions(options, ['ttlMs'], 'checkQueueing');
  checkMs(options.ttlMs, 'ttlMs');
  const attempts = attemptsOf(history);
  const byName = new Map<string, Attempt[]>();
  for (const one of attempts) push(byName, one.name, one);
  const freezes = freezesOf(history);
  const limits = limitsOf(history);
  const isFrozen = (process: string, index: number): boolean =>
    (freezes.get(process) ?? []).some(([from, to]) => from < index && to > index);
  const held = [...holdsByName(attempts).values()].flat();
  return [
    ...[...byName].flatMap(([name, its]) => overtaken(its, limits.get(name)?.most ?? Infinity)),
    ...held.flatMap((one) => deadWinner(one, isFrozen)),
    ...leftBehind(history, attempts, options.ttlMs),
  ];
}

/** Who was ahead of a winner that it cannot hold beside, and waits still, or won only later. */
function overtaken(attempts: readonly Attempt[], most: number): Violation[] {
  const line = attempts.filter((one): one is Queued => one.queued !== undefined);
  line.sort((one, other) => Number(placeOf(one) - placeOf(other)));
  /** By weight: how long those ahead wait, at most. */
  const ahead = new Map<number, Highest<bigint, Queued>>();
  return line.flatMap((one): Violation[] => {
    const { held, name, queued } = one;
    const weight = weightOf(one);
    const passed = [...ahead]
      .filter(([other]) => excludes(weight, other, most))
      .map(([, waits]) => waits.before(Number(placeOf(one))))
      .find((waits) => held !== undefined && waits !== undefined && waits.value > held.record.token)?.of;
    const waits = ahead.get(weight) ?? new Highest<bigint, Queued>();
    ahead.set(weight, waits);
    waits.add(Number(placeOf(one)), waitsUntil(one), one);
    if (held === undefined || passed === undefined) return [];
    return [
      {
        rule: 'fifo',
        message: `${name}: attempt ${one.attempt} (created at ${placeOf(one)}) won before attempt ${passed.attempt} (created at ${placeOf(passed)}), which was waiting`,
        at: [passed.queued.record, queued.record, held.record],
      },
    ];
  });
}

type Queued = Attempt & { queued: Placed<'queued'> };

function placeOf({ queued }: Queued): bigint {
  return queued.record.createRevision;
}

const FOR_EVER = 2n ** 63n;

/** Up to which revision one in line certainly was waiting; one that gave up may have left at any time. */
function waitsUntil({ crashed, gaveUp, gone, held, lossSignal }: Attempt): bigint {
  if (held !== undefined) return held.record.token;
  const goneAt = gone?.record.revision;
  if (goneAt !== undefined) return goneAt;
  return [crashed, gaveUp, gone, lossSignal].every((end) => end === undefined) ? FOR_EVER : -1n;
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
  const given = new Map<number, Attempt & { gaveUp: Placed<'gaveUp'> }>();
  for (const one of attempts)
    if (one.gaveUp !== undefined && one.held === undefined)
      given.set(one.attempt, { ...one, gaveUp: one.gaveUp });
  const isLate = ({ gaveUp }: { gaveUp: Placed<'gaveUp'> }, { atMs }: HistoryRecord): boolean =>
    atMs > gaveUp.record.atMs + ttlMs;
  const seen = new Map<number, HistoryRecord>();
  for (const record of history) {
    if (record.is !== 'tickets') continue;
    for (const attempt of record.attempts) {
      const one = given.get(attempt);
      if (one?.name === record.name && isLate(one, record) && !seen.has(attempt)) seen.set(attempt, record);
    }
  }
  return [...given.values()].flatMap((one): Violation[] => {
    const { attempt, gaveUp, gone, name } = one;
    const found =
      seen.get(attempt) ?? (gone !== undefined && isLate(one, gone.record) ? gone.record : undefined);
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
