// What is judged of each hold by itself, whether it is exclusive or shared.
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { type Attempt, endOf, type freezesOf, type Held } from './holds.js';
import { inOrder } from './places.js';

/** See `freezesOf`. */
export type Freezes = ReturnType<typeof freezesOf>;

/** Where a hold ends as far as its process could do anything with it: it is told, ended by somebody else's hand, or first frozen. */
export function activeUntil(one: Held, freezes: Freezes): number {
  const frozen = (freezes.get(one.process) ?? []).find(([, to]) => to > one.held.index);
  const byHand = one.gone?.record.byHand === true ? one.gone.index : Infinity;
  return Math.min(endOf(one), byHand, Math.max(frozen?.[0] ?? Infinity, one.held.index));
}

/** A write is committed after its own token, while its ticket is there, and is still what it was. */
export function outside(one: Held, write: RecordOf<'guardedWrite'>): Violation[] {
  const { attempt, gone, held, name, passedOn } = one;
  const { revision } = write;
  const { token } = held.record;
  if (revision === undefined) return [];
  const goneAt = gone?.record.revision;
  const told = `${name}: attempt ${attempt} (token ${token}) wrote at ${revision}`;
  const violation = (what: string, by: HistoryRecord): Violation[] => [
    { rule: 'guarded-write-outside', message: `${told}, ${what}`, at: [write, by] },
  ];
  if (gone !== undefined && goneAt !== undefined && revision > goneAt)
    return violation(`when its ticket was gone since ${goneAt}`, gone.record);
  if (passedOn !== undefined && revision >= passedOn.record.token)
    return violation(
      `when it had become attempt ${passedOn.record.attempt} at ${passedOn.record.token}`,
      passedOn.record,
    );
  return revision > token ? [] : violation('before it was first', held.record);
}

/** A holder is told before etcd ends its hold; one that was frozen then, before it asks for anything guarded. */
export function lossOf(one: Attempt, freezes: Freezes): Violation[] {
  const { gone, held, lossSignal, writes } = one;
  if (gone === undefined || held === undefined || endOf(one) < gone.index) return [];
  if (gone.record.byHand === true) return [];
  const told = lossSignal?.index ?? Infinity;
  const violations: Violation[] = [];
  const wasFrozen = (freezes.get(one.process) ?? []).some(
    ([from, to]) => from < gone.index && to > gone.index,
  );
  if (!wasFrozen)
    violations.push({
      rule: 'loss-told-late',
      message: `${one.name}: attempt ${one.attempt} of ${one.process} ended in etcd before its holder was told`,
      at: inOrder(held, gone, lossSignal),
    });
  const write = writes.find(({ index }) => index > gone.index && index < told);
  if (write !== undefined)
    violations.push({
      rule: 'write-before-loss-told',
      message: `${one.name}: ${one.process} asked for a guarded write by attempt ${one.attempt}, which had ended, before it was told`,
      at: inOrder(gone, write, lossSignal),
    });
  return violations;
}
