/** `conclave ls`: which names are in use, and by whom. */
import { type Kind, KINDS, type Name, type Party } from '../../look/names.js';
import { type Survey, survey } from '../../look/survey.js';
import { EXIT } from '../exit-codes.js';
import { type Flag, type Page, UsageError } from '../usage.js';
import { LOOK_FLAGS, LOOK_NOTES, looking, print, readLookArgs } from './looking.js';
import { ago, paint, printable, type Screen, screenOf, span, table, wrap } from './screen.js';

const FLAGS = {
  kind: {
    value: 'KIND,…',
    help: `only of these kinds: ${KINDS.slice(0, 4).join(', ')},\n${KINDS.slice(4).join(', ')}`,
  },
  'held-by': { value: 'HOST', help: 'only what a process at HOST holds; HOST:PID: that process' },
  waiting: { help: 'only what somebody waits for; queues with jobs to be run' },
  ...LOOK_FLAGS,
} as const satisfies Record<string, Flag>;

export const LS_PAGE: Page<keyof typeof FLAGS> = {
  name: 'ls',
  usage: ['ls [OPTION …] [PREFIX]'],
  about: `Lists every name that is in use and begins with PREFIX: who holds it, since when it wanted it, how many wait and
for how long the first of them does, and what is left of the holder's lease. Holders that are Go programs or etcdctl are
shown, too, by their lease.

Example: what do processes at build7 hold that others wait for?
  conclave ls --held-by build7 --waiting deploy/`,
  flags: FLAGS,
  notes: LOOK_NOTES,
};

/** `conclave ls`. Resolves with the exit code. */
export async function ls(argv: readonly string[]): Promise<number> {
  const typed = readLookArgs(LS_PAGE, argv);
  const [prefix = '', surplus] = typed.positionals;
  if (surplus !== undefined) throw new UsageError(`ls takes one prefix, not ${JSON.stringify(surplus)}, too`);
  const options = {
    heldBy: typed.text('held-by'),
    kinds: readKinds(typed.text('kind')),
    prefix,
    waiting: typed.has('waiting'),
  };
  return looking('ls', typed, async (client, signal) => {
    const found = await survey(client, { ...options, signal });
    if (typed.has('json')) await print(JSON.stringify(found));
    else if (found.names.length > 0) await print(list(found, screenOf(), client.clock.wall()));
    if (!found.leasesAsked && !typed.has('json'))
      console.error('conclave ls: too many holders to ask for each lease: narrow it by a PREFIX or --kind');
    return EXIT.ok;
  });
}

/** The kinds that were named. Throws UsageError for one that does not exist. */
export function readKinds(text: string | undefined): readonly Kind[] | undefined {
  return text?.split(',').map((each) => {
    const kind = KINDS.find((known) => known === each.trim());
    if (kind === undefined)
      throw new UsageError(`--kind ${JSON.stringify(each)} is none of ${KINDS.join(', ')}`);
    return kind;
  });
}

const HEAD = ['NAME', 'KIND', 'HELD BY', 'FOR', 'WAITING', 'LONGEST', 'LEASE'];

/** All names as a table; where that is too wide, a paragraph for each. */
function list({ leasesAsked, names }: Survey, screen: Screen, nowMs: number): string {
  const rows = names.map((name) => cells(name, screen, nowMs));
  const last = leasesAsked ? HEAD.length : HEAD.length - 1;
  const cut = (row: readonly string[]): readonly string[] => row.slice(0, last);
  return (
    table(screen, cut(HEAD), rows.map(cut)) ??
    names.map((name) => paragraph(name, screen, { leasesAsked, nowMs })).join('\n')
  );
}

function cells(name: Name, screen: Screen, nowMs: number): string[] {
  const [first] = name.holders;
  return [
    paint(screen, 'bold', printable(name.name)),
    name.kind,
    heldBy(name),
    first === undefined ? '' : ago(first.since, nowMs),
    name.waiting === 0 ? '' : String(name.waiting),
    name.waiting === 0 ? '' : ago(name.oldestWait, nowMs),
    first === undefined ? '' : leaseText(first),
  ];
}

function paragraph(
  name: Name,
  screen: Screen,
  { leasesAsked, nowMs }: { readonly leasesAsked: boolean; readonly nowMs: number },
): string {
  const [first] = name.holders;
  const { oldestWait, waiting } = name;
  const held = first === undefined ? heldBy(name) : `held by ${heldBy(name)} for ${ago(first.since, nowMs)}`;
  const wait = waiting === 0 ? '' : `${String(waiting)} waiting, the first for ${ago(oldestWait, nowMs)}`;
  const lease = first === undefined || !leasesAsked ? '' : `lease ${leaseText(first)}`;
  const text = [held, lease, wait].filter((part) => part !== '').join('; ');
  const title = `${paint(screen, 'bold', printable(name.name))} ${name.kind}`;
  return `${wrap(screen, title)}\n${wrap(screen, `    ${text}`)}`;
}

/** Who holds a name, or what it is if nobody can. */
function heldBy(name: Name): string {
  const { count, jobs, remaining, state, workers } = name;
  if (jobs !== undefined) {
    const { active, dead } = jobs;
    const parts = [`${String(workers)} workers`, `${String(active)} active`];
    if (dead > 0) parts.push(`${String(dead)} dead`);
    return [...parts, ...(state === 'paused' ? ['paused'] : [])].join(', ');
  }
  if (name.kind === 'latch')
    return remaining === 0 ? 'open' : `${String(remaining)} of ${String(count)} to go`;
  if (name.kind === 'double-barrier')
    return name.holders.length > 0 ? `${String(name.holders.length)} inside` : `waits for ${String(count)}`;
  const [first, ...others] = name.holders;
  if (first === undefined) return 'nobody';
  const more = others.length === 0 ? '' : ` +${String(others.length)}`;
  return `${state === 'broken' ? 'broken, was ' : ''}${who(first)}${more}`;
}

/** Who it is: host, process and label; of another client its lease. */
export function who({ host, label, lease, pid }: Party): string {
  if (host === undefined) return pid === undefined ? `lease ${lease ?? 'none'}` : `process ${String(pid)}`;
  const place = `${printable(host)}:${String(pid)}`;
  return label === undefined ? place : `${place} (${printable(label)})`;
}

/** What is left of its lease. */
export function leaseText({ lease, leaseLeftSeconds }: Party): string {
  if (lease === undefined) return 'none';
  return leaseLeftSeconds === undefined ? 'gone' : span(leaseLeftSeconds);
}
