/**
 * Whether exclusive holds exclude each other: locks, leaderships, and whatever else is held under a name by one at a time.
 *
 * Three rules bear on what etcd did, by revisions alone: those of tokens and of guarded writes. The others bear on what
 * holders knew, by the order of the history; they excuse a process that was frozen, until it is thawed.
 */
import type { HistoryRecord, Violation } from './history.js';
import { activeUntil, type Freezes, lossOf, outside } from './hold-rules.js';
import { attemptsOf, freezesOf, type Held, holdsByName } from './holds.js';
import { inOrder } from './places.js';
import { sharedNames } from './shares.js';

/**
 * Passes over names of which a record says that they are shared (`mode`, `weight`, `limit`): see `checkSharedHolds`.
 * Rules: `tokens-increase`, `guarded-writes-interleave`, `guarded-write-outside`, `holds-overlap`, `loss-told-late`,
 * `write-before-loss-told`.
 */
export function checkMutualExclusion(history: readonly HistoryRecord[]): Violation[] {
  const freezes = freezesOf(history);
  const attempts = attemptsOf(history);
  const shared = sharedNames(history);
  return [...holdsByName(attempts)].flatMap(([name, holds]) =>
    shared.has(name)
      ? []
      : [
          ...tokens(holds),
          ...guardedWrites(holds),
          ...overlaps(holds, freezes),
          ...holds.flatMap((one) => lossOf(one, freezes)),
        ],
  );
}

/** By how much the loss signals of a history came before etcd ended what was held; the smallest. */
export interface LossMargin {
  /** Milliseconds from the signal to the end; negative if it came after it. */
  readonly marginMs: number;
  /** The signal, and the end. */
  readonly at: readonly HistoryRecord[];
}

/** The smallest margin of all holds that were told of their loss and ended in etcd without being given back. */
export function smallestLossMargin(history: readonly HistoryRecord[]): LossMargin | undefined {
  const margins = attemptsOf(history).flatMap(({ held, lossSignal, release, gone }): LossMargin[] => {
    if (held === undefined || lossSignal === undefined || gone === undefined) return [];
    if ((release?.index ?? Infinity) < lossSignal.index) return [];
    return [{ marginMs: gone.record.atMs - lossSignal.record.atMs, at: inOrder(lossSignal, gone) }];
  });
  return margins.reduce<LossMargin | undefined>(
    (least, one) => (least === undefined || one.marginMs < least.marginMs ? one : least),
    undefined,
  );
}

/** No token twice, and none that is not above those of holds which were told before its attempt began. */
function tokens(holds: readonly Held[]): Violation[] {
  const violations: Violation[] = [];
  const seen = new Map<bigint, Held>();
  // Those told so far, each with the highest token up to it.
  const highest: Held[] = [];
  for (const one of holds) {
    const { token } = one.held.record;
    const began = one.acquire?.index ?? one.held.index;
    const before = highest.findLast(({ held }) => held.index < began);
    const same = seen.get(token);
    const earlier = same ?? (before !== undefined && before.held.record.token > token ? before : undefined);
    if (earlier !== undefined)
      violations.push({
        rule: 'tokens-increase',
        message: `${one.name}: token ${token} of attempt ${one.attempt} is not above ${earlier.held.record.token} of attempt ${earlier.attempt}, which was held before`,
        at: [earlier.held.record, one.held.record],
      });
    seen.set(token, one);
    const top = highest.at(-1);
    // The place is that of the telling, whoever has the highest token by then.
    highest.push(
      top === undefined || token > top.held.record.token
        ? one
        : { ...one, held: { index: one.held.index, record: top.held.record }, attempt: top.attempt },
    );
  }
  return violations;
}

/** Each write is committed after its own token, before any higher one, and before its ticket is gone. */
function guardedWrites(holds: readonly Held[]): Violation[] {
  const byToken = holds.toSorted((one, other) => Number(one.held.record.token - other.held.record.token));
  return byToken.flatMap((one, at) => {
    const next = byToken[at + 1];
    const { token } = one.held.record;
    return one.writes.flatMap(({ record }): Violation[] => {
      const { revision } = record;
      if (revision === undefined) return [];
      const told = `${one.name}: attempt ${one.attempt} (token ${token}) wrote at ${revision}`;
      if (next !== undefined && revision >= next.held.record.token)
        return [
          {
            rule: 'guarded-writes-interleave',
            message: `${told}, when attempt ${next.attempt} held it since ${next.held.record.token}`,
            at: [record, next.held.record],
          },
        ];
      return outside(one, record);
    });
  });
}

function overlaps(holds: readonly Held[], freezes: Freezes): Violation[] {
  const violations: Violation[] = [];
  let last: Held | undefined;
  for (const one of holds) {
    const isSpent = activeUntil(one, freezes) <= one.held.index;
    if (last !== undefined && !isSpent && activeUntil(last, freezes) > one.held.index)
      violations.push({
        rule: 'holds-overlap',
        message: `${one.name}: attempt ${one.attempt} of ${one.process} is held while attempt ${last.attempt} of ${last.process} still is`,
        at: [last.held.record, one.held.record],
      });
    if (last === undefined || activeUntil(one, freezes) > activeUntil(last, freezes)) last = one;
  }
  return violations;
}
