/** `conclave history`: who held a name, from when to when, as etcd remembers it. */
import { type Dated, heldAt, heldWhen, type History, readHistory, type Term } from '../../look/history.js';
import { EXIT } from '../exit-codes.js';
import { type Flag, type Page, UsageError } from '../usage.js';
import { LOOK_FLAGS, LOOK_NOTES, looking, print, readLookArgs, readName } from './looking.js';
import { who } from './ls.js';
import { paint, printable, type Screen, screenOf, table, wrap } from './screen.js';

const FLAGS = {
  at: { value: 'TIME', help: 'who held it then: an ISO 8601 time, or a revision' },
  ...LOOK_FLAGS,
} as const satisfies Record<string, Flag>;

export const HISTORY_PAGE: Page<keyof typeof FLAGS> = {
  name: 'history',
  usage: ['history [OPTION …] NAME'],
  about: `Shows who held the lock, semaphore or election NAME, from which revision (the fencing token) to which, how each term
ended and how long nobody held it, as far back as etcd's history is not compacted. Revisions are exact; times are by
the clocks of those who asked for it, before and after.

Example: were there two leaders at 03:12?
  conclave history --at 2026-11-28T03:12:00Z jobs/leader`,
  flags: FLAGS,
  notes: `${LOOK_NOTES}\nHere 1: nobody held it, or it is not known.`,
};

/** `conclave history`. Resolves with the exit code. */
export async function history(argv: readonly string[]): Promise<number> {
  const typed = readLookArgs(HISTORY_PAGE, argv);
  const name = readName(HISTORY_PAGE, typed);
  const at = readMoment(typed.text('at'));
  return looking('history', typed, async (client, signal) => {
    const seen = await readHistory(client, name, signal);
    const json = typed.has('json');
    const screen = screenOf();
    if (typeof at === 'bigint') {
      const terms = heldAt(seen, at);
      if (json) await print(JSON.stringify({ ...seen, at: String(at), terms: terms ?? null }));
      else await print(atRevision(seen, at, terms, screen));
      return (terms ?? []).length > 0 ? EXIT.ok : EXIT.no;
    }
    if (at !== undefined) {
      const terms = heldWhen(seen, at);
      if (json) {
        const told = terms.map(({ certain, term }) => ({ ...term, certain }));
        await print(JSON.stringify({ ...seen, at: at.toISOString(), terms: told }));
      } else await print(atTime(seen, at, terms, screen));
      return terms.length > 0 ? EXIT.ok : EXIT.no;
    }
    await print(json ? JSON.stringify(seen) : whole(seen, screen));
    return seen.terms.length > 0 ? EXIT.ok : EXIT.no;
  });
}

function readMoment(text: string | undefined): bigint | Date | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return BigInt(text);
  const time = new Date(text);
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new UsageError(
    `--at must be a time such as 2026-11-28T03:12:00Z, or a revision, not ${JSON.stringify(text)}`,
  );
}

function atRevision(seen: History, at: bigint, terms: readonly Term[] | undefined, screen: Screen): string {
  const held =
    terms === undefined
      ? `it is not known who held it at revision ${String(at)}`
      : terms.length === 0
        ? `nobody held it at revision ${String(at)}`
        : `at revision ${String(at)} it was held by ${terms.map(termText).join('; and by ')}`;
  return [heading(seen, screen), wrap(screen, held)].join('\n');
}

function atTime(
  seen: History,
  at: Date,
  terms: readonly { readonly term: Term; readonly certain: boolean }[],
  screen: Screen,
): string {
  const when = at.toISOString();
  const lines = terms.map(
    ({ certain, term }) => `  ${certain ? 'held by' : 'perhaps held by'} ${termText(term)}`,
  );
  const title =
    terms.length === 0
      ? `nobody is known to have held it at ${when}`
      : `at ${when}, by the clocks of those who asked:`;
  return [heading(seen, screen), ...[title, ...lines].map((line) => wrap(screen, line, 4))].join('\n');
}

function termText(term: Term): string {
  const until =
    term.until === undefined ? 'which holds it still' : `until revision ${term.until} (${term.ended ?? ''})`;
  return `${who(term.holder)} from ${term.token === undefined ? 'before history begins' : `revision ${term.token}`}, ${until}`;
}

/** What the history is of, and what it proves. */
function heading({ complete, kind, name, since, terms, until }: History, screen: Screen): string {
  const from = since === '0' ? 'the store began' : `revision ${since}, before which it is compacted`;
  const alone = kind === 'lock' || kind === 'election' ? ', of which no two overlap' : '';
  const proof = complete
    ? `${String(terms.length)} terms${terms.length > 1 ? alone : ''}; nothing is missing`
    : 'nothing was found; etcd does not prove that there is none';
  const title = `${paint(screen, 'bold', printable(name))}  ${kind}, from when ${from}, to revision ${until}: ${proof}`;
  return wrap(screen, since === '0' ? title : title.replace('from when', 'from'), 4);
}

const HEAD = ['TOKEN', 'HELD BY', 'FROM', 'UNTIL', 'REVISION', 'ENDED'];

function whole(seen: History, screen: Screen): string {
  const rows = seen.terms.map((term, at) => {
    const { began, ended, holder, over, token, until } = term;
    // Nobody held it from the end of one term to the beginning of the next.
    const next = seen.terms[at + 1]?.token;
    const free =
      until !== undefined && next !== undefined && BigInt(next) > BigInt(until) ? ', then free' : '';
    return [
      token ?? 'earlier',
      who(holder),
      token === undefined ? '' : dated(began),
      until === undefined ? 'holds it' : dated(over),
      until ?? '',
      (ended ?? '') + free,
    ];
  });
  const says = seen.terms.flatMap(({ token, values }) =>
    values.map((value) => wrap(screen, `  ${token ?? 'earlier'} said ${printable(value)}`, 4)),
  );
  const listed =
    rows.length === 0
      ? []
      : [
          table(screen, HEAD, rows) ??
            rows
              .map(([token, holder, from, to, revision, ended]) => {
                const parts = [`token ${token ?? ''}`, holder, `from ${from ?? ''}`, `until ${to ?? ''}`];
                const more = revision === '' ? [] : [`revision ${revision ?? ''}`, ended];
                return wrap(screen, [...parts, ...more].join('; '), 4);
              })
              .join('\n'),
        ];
  return [heading(seen, screen), ...listed, ...says].join('\n');
}

/** A moment as exactly as it is known. */
function dated({ after, before }: Dated): string {
  if (after === before) return after ?? '?';
  if (before === undefined) return `after ${after ?? '?'}`;
  if (after === undefined) return `before ${before}`;
  // The day is said once.
  const short = after.slice(0, 10) === before.slice(0, 10) ? before.slice(11) : before;
  return `${after}…${short}`;
}
