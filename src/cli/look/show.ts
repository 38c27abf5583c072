/** `conclave show`: one name, seen closely. */
import type { Party } from '../../look/names.js';
import { follow } from '../../look/follow.js';
import { type NameView, rangesOf, type Shown, showName } from '../../look/show.js';
import { EXIT } from '../exit-codes.js';
import type { Flag, Page } from '../usage.js';
import { LOOK_FLAGS, LOOK_NOTES, looking, print, readLookArgs, readName } from './looking.js';
import { leaseText, readKinds, who } from './ls.js';
import { ago, counted, paint, printable, type Screen, screenOf, wrap } from './screen.js';

const FLAGS = {
  watch: { short: 'w', help: 'print it again whenever it changes, until interrupted' },
  limit: { value: 'N', help: 'so many of those who wait, and of jobs (default 50)' },
  kind: { value: 'KIND,…', help: 'only what is of these kinds, when the name is used for several' },
  ...LOOK_FLAGS,
} as const satisfies Record<string, Flag>;

export const SHOW_PAGE: Page<keyof typeof FLAGS> = {
  name: 'show',
  usage: ['show [OPTION …] NAME'],
  about: `Shows who holds NAME, since when and on which lease, and who waits, in order; of a queue its counts, its workers
with what each runs, and its dead jobs with their errors; of an election what its candidates say.

Example: follow who leads, one line of JSON for each change:
  conclave show --watch --json jobs/leader`,
  flags: FLAGS,
  notes: LOOK_NOTES,
};

/** `conclave show`. Resolves with the exit code: 1 when the name is not in use. */
export async function show(argv: readonly string[]): Promise<number> {
  const typed = readLookArgs(SHOW_PAGE, argv);
  const name = readName(SHOW_PAGE, typed);
  const kinds = readKinds(typed.text('kind'));
  const most = typed.whole('limit', 1, 1_000_000);
  const json = typed.has('json');
  return looking('show', typed, async (client, signal) => {
    const read = (): Promise<NameView> => showName(client, name, { kinds, most, signal });
    const text = (view: NameView): string => {
      return json
        ? JSON.stringify(view)
        : pageOf(name, view, { nowMs: client.clock.wall(), screen: screenOf() });
    };
    if (!typed.has('watch')) {
      const view = await read();
      if (json || view.names.length > 0) await print(text(view));
      else console.error(`conclave show: nobody uses ${JSON.stringify(name)}`);
      return view.names.length > 0 ? EXIT.ok : EXIT.no;
    }
    let last: string | undefined;
    const isLive = process.stdout.isTTY && !json;
    const look = async (): Promise<void> => {
      const view = await read();
      const now = unchanging(view);
      // A terminal shows the countdown, too; elsewhere only what has changed is printed.
      if (!isLive && now === last) return;
      const between = isLive ? '\u{1b}[H\u{1b}[2J' : last === undefined || json ? '' : '\n';
      last = now;
      await print(between + text(view));
    };
    return await follow(client, rangesOf(name), look, signal);
  });
}

/** What has to be printed again when it is another. */
function unchanging({ names }: NameView): string {
  return JSON.stringify(names, (key, value: unknown) => (key === 'leaseLeftSeconds' ? undefined : value));
}

/** What is needed to write times and lines. */
interface Sheet {
  readonly screen: Screen;
  readonly nowMs: number;
}

function pageOf(name: string, { names }: NameView, sheet: Sheet): string {
  if (names.length === 0) return `${printable(name)}: nobody uses it`;
  return names.map((each) => cardOf(each, sheet).join('\n')).join('\n\n');
}

function cardOf(name: Shown, sheet: Sheet): string[] {
  const { screen } = sheet;
  const title = `${paint(screen, 'bold', printable(name.name))}  ${name.kind}`;
  const state = stateOf(name, sheet);
  const lines = [wrap(screen, title), ...(state === '' ? [] : [wrap(screen, `  ${state}`)])];
  for (const holder of name.holders) lines.push(...holderOf(holder, name, sheet));
  if (name.waiters.length > 0) lines.push(`  waiting ${String(name.waiting)}`);
  for (const [at, waiter] of name.waiters.entries()) lines.push(waiterOf(at + 1, waiter, sheet));
  const more = name.kind === 'queue' ? 0 : name.waiting - name.waiters.length;
  if (more > 0) lines.push(`    and ${String(more)} more (--limit)`);
  return [...lines, ...queueOf(name, sheet)];
}

/** The line below the title. */
function stateOf(name: Shown, { nowMs }: Sheet): string {
  const { count = 0, holders, jobs, kind, limit, oldestWait, remaining = 0, state, workers = 0 } = name;
  if (jobs !== undefined) {
    const { active, dead, delayed, waiting } = jobs;
    const oldest = oldestWait === undefined ? '' : `, the oldest for ${ago(oldestWait, nowMs)}`;
    const parts = `${waiting} waiting${oldest}; ${delayed} delayed, ${active} active, ${dead} dead`;
    return `${state === 'paused' ? 'paused; ' : ''}${parts}; ${counted(workers, 'worker')}`;
  }
  if (kind === 'latch') return remaining === 0 ? 'open' : `${remaining} of ${count} still to count down`;
  if (kind === 'double-barrier') return `${String(holders.length)} inside; rounds of ${count}`;
  if (kind === 'semaphore') return `${String(limit ?? '?')} permits; ${counted(holders.length, 'holder')}`;
  if (state === 'broken') return 'broken: its holder died; it is to be held again or reset';
  return holders.length === 0 ? 'nobody holds it' : '';
}

function holderOf(party: Party, { kind, state }: Shown, { nowMs, screen }: Sheet): string[] {
  const { createRevision, key, lease, mode, modRevision, since, value, weight } = party;
  const verb = state === 'broken' ? 'was held by' : kind === 'election' ? 'led by' : 'held by';
  const how = [asMode(mode), weight === undefined ? '' : counted(weight, 'permit')];
  const title = [verb, paint(screen, 'green', who(party)), ...how].filter((part) => part !== '').join(' ');
  const rows = [
    since === undefined
      ? 'since    not known: another client, which does not say'
      : `since    ${printable(since)}, ${ago(since, nowMs)} ago`,
    lease === undefined
      ? 'lease    none: it stays until somebody removes it'
      : `lease    ${lease}, ${leaseLeft(party)}`,
    `key      ${printable(key)}`,
    `revision ${createRevision}; its fencing token is ${modRevision} or greater`,
    ...(value === undefined ? [] : [`value    ${printable(value)}`]),
  ];
  return [`  ${title}`, ...rows.map((row) => `    ${row}`)].map((line) => wrap(screen, line, 9));
}

function asMode(mode: Party['mode']): string {
  if (mode === undefined) return '';
  return mode === 'read' ? 'as a reader' : 'as the writer';
}

function leaseLeft(party: Party): string {
  return party.leaseLeftSeconds === undefined ? 'which is gone' : `${leaseText(party)} left`;
}

function waiterOf(place: number, party: Party, { nowMs, screen }: Sheet): string {
  const { mode, since, value, weight } = party;
  const parts = [
    `${String(place).padStart(5)}  ${who(party)}`,
    asMode(mode),
    weight === undefined ? '' : counted(weight, 'permit'),
    since === undefined ? '' : `for ${ago(since, nowMs)}`,
    party.lease === undefined || party.host === undefined ? '' : `lease ${party.lease}`,
    leaseLeft(party),
    value === undefined ? '' : printable(value),
  ];
  return wrap(screen, `  ${parts.filter((part) => part !== '').join('  ')}`, 5);
}

function queueOf({ jobs, queue, workers = 0 }: Shown, { nowMs, screen }: Sheet): string[] {
  if (queue === undefined) return [];
  const lines: string[] = [];
  const running = (ids: readonly { readonly id: string; readonly attempts: number }[]): string =>
    ids
      .map(({ attempts, id }) => printable(id) + (attempts > 1 ? ` (attempt ${String(attempts)})` : ''))
      .join(', ');
  for (const worker of queue.workers) {
    const text = worker.running.length === 0 ? 'idle' : `runs ${running(worker.running)}`;
    lines.push(`  worker ${who(worker)}, for ${ago(worker.since, nowMs)}, ${leaseLeft(worker)}: ${text}`);
  }
  if (workers > queue.workers.length)
    lines.push(`  and ${counted(workers - queue.workers.length, 'worker')} more`);
  if (queue.orphans.length > 0) lines.push(`  of workers that are gone: ${running(queue.orphans)}`);
  for (const { attempts, errors, id } of queue.dead) {
    const last = errors.at(-1);
    const why = last === undefined ? '' : `: ${printable(last.message)}, ${ago(last.at, nowMs)} ago`;
    lines.push(
      `  ${paint(screen, 'red', 'dead')} ${printable(id)} after ${counted(attempts, 'attempt')}${why}`,
    );
  }
  const more = (jobs?.dead ?? 0) - queue.dead.length;
  if (more > 0) lines.push(`  and ${String(more)} more dead (--limit)`);
  return lines.map((line) => wrap(screen, line, 4));
}
