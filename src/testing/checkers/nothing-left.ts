/** Whether anything is left at the end: a process, key, lease, timer, listener or handle. */
import { checkOptions } from '../../util/validate.js';
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import type { Leftover } from './records/faults.js';

/** Options of `checkNothingLeft`. */
export interface NothingLeftOptions {
  /** Of which kinds somebody must have looked. @default those of which somebody has */
  readonly kinds?: readonly Leftover[];
  /** What is to stay, by name. @default nothing */
  readonly stays?: readonly RegExp[];
}

const SHOWN = 10;

/**
 * Rules: `something-left`, one violation for each kind and process; `not-looked`, for each kind without any look. The last
 * look of each process counts: an earlier one may have been too early.
 */
export function checkNothingLeft(
  history: readonly HistoryRecord[],
  options: NothingLeftOptions = {},
): Violation[] {
  checkOptions(options, ['kinds', 'stays'], 'checkNothingLeft');
  const { kinds = [], stays = [] } = options;
  const looks = new Map<string, RecordOf<'remains'>>();
  for (const record of history)
    if (record.is === 'remains') looks.set(JSON.stringify([record.kind, record.process]), record);
  const looked = new Set([...looks.values()].map(({ kind }) => kind));
  const end = history.slice(-1);
  const violations: Violation[] = kinds
    .filter((kind) => !looked.has(kind))
    .map((kind) => ({ at: end, message: `nobody has looked for ${kind}`, rule: 'not-looked' }));
  for (const look of looks.values()) {
    const names = look.names.filter((name) => !stays.some((pattern) => name.search(pattern) >= 0));
    if (names.length === 0) continue;
    const shown = names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ', …' : '');
    const message = `${look.process}: ${names.length} ${look.kind} are left: ${shown}`;
    violations.push({ at: [look], message, rule: 'something-left' });
  }
  return violations;
}
