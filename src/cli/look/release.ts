/** `conclave release`: takes a hold, or a place in line, from somebody, after it has said what that means. */
import { createInterface } from 'node:readline';

import { planRelease, release as doRelease, type ReleasePlan } from '../../look/release.js';
import { orAborted } from '../../util/abort.js';
import { EXIT } from '../exit-codes.js';
import { type Flag, type Page, UsageError } from '../usage.js';
import { LOOK_FLAGS, LOOK_NOTES, looking, print, readLookArgs, readName } from './looking.js';
import { readKinds, who } from './ls.js';
import { ago, counted, paint, printable, type Screen, screenOf, wrap } from './screen.js';

const FLAGS = {
  yes: { short: 'y', help: 'do not ask' },
  lease: { help: 'revoke the whole lease, with all that is bound to it, instead of deleting the key' },
  holder: {
    value: 'KEY',
    help: 'whom to take it from, when several hold it: the key that "conclave show" prints',
  },
  waiter: { value: 'KEY', help: 'take one who waits out of the line instead' },
  kind: { value: 'KIND,…', help: 'what to release, when the name is used for several' },
  ...LOOK_FLAGS,
} as const satisfies Record<string, Flag>;

export const RELEASE_PAGE: Page<keyof typeof FLAGS> = {
  name: 'release',
  usage: ['release [OPTION …] NAME'],
  about: `Takes NAME from who holds it: shows whom, asks, and deletes its key, or with --lease revokes its lease. Refuses when
what it has shown is not so any more. Whoever held it may go on working: a program of Conclave's hears of it by its
hold's signal, a Go program or etcdctl only when its lease is revoked.

Example: free a lock whose holder hangs
  conclave release deploy/web`,
  flags: FLAGS,
  notes: `${LOOK_NOTES.trimEnd()}
Here 1: nobody holds it, or the answer was no; ${EXIT.conflict}: it has changed since it was shown, and nothing was done.`,
};

/** `conclave release`. Resolves with the exit code. */
export async function release(argv: readonly string[]): Promise<number> {
  const typed = readLookArgs(RELEASE_PAGE, argv);
  const json = typed.has('json');
  const request = {
    holder: typed.text('holder'),
    kinds: readKinds(typed.text('kind')),
    lease: typed.has('lease'),
    name: readName(RELEASE_PAGE, typed),
    waiter: typed.text('waiter'),
  };
  if (json && !typed.has('yes')) throw new UsageError('--json goes with --yes: there is nobody to ask');
  if (request.holder !== undefined && request.waiter !== undefined)
    throw new UsageError('give --holder or --waiter, not both');
  return looking('release', typed, async (client, signal) => {
    const plan = await planRelease(client, { ...request, signal });
    if ('is' in plan) {
      console.error(
        `conclave release: ${plan.is === 'nobody' ? nobody(request) : several(request.name, plan.of)}`,
      );
      return plan.is === 'nobody' ? EXIT.no : EXIT.usage;
    }
    if (!json) await print(planText(plan, screenOf(), client.clock.wall()));
    if (!typed.has('yes') && !(await agrees(signal))) {
      console.error('conclave release: nothing was done');
      return EXIT.no;
    }
    if ((await doRelease(client, plan, signal)) === 'changed') {
      console.error(`conclave release: ${JSON.stringify(plan.name)} has changed since; nothing was done`);
      return EXIT.conflict;
    }
    await print(json ? JSON.stringify(plan) : 'done');
    return EXIT.ok;
  });
}

function nobody({
  holder,
  name,
  waiter,
}: {
  name: string;
  holder?: string | undefined;
  waiter?: string | undefined;
}): string {
  if (waiter !== undefined)
    return `nobody waits for ${JSON.stringify(name)} with the key ${JSON.stringify(waiter)}`;
  const by = holder === undefined ? '' : ` with the key ${JSON.stringify(holder)}`;
  return `nobody holds ${JSON.stringify(name)}${by}`;
}

function several(name: string, of: readonly { readonly kind: string; readonly key: string }[]): string {
  const shown = of.slice(0, 5).map(({ key, kind }) => `${JSON.stringify(key)} (${kind})`);
  const more = of.length > shown.length ? ` and ${String(of.length - shown.length)} more` : '';
  return `${counted(of.length, 'session')} hold ${JSON.stringify(name)}: name one by --holder: ${shown.join(', ')}${more}`;
}

/** Keys of a lease that are named; there may be thousands. */
const MOST_KEYS = 10;

function planText(plan: ReleasePlan, screen: Screen, nowMs: number): string {
  const { from, keys, lease, next, was } = plan;
  const since = from.since === undefined ? '' : `, who asked for it ${ago(from.since, nowMs)} ago`;
  const whom = paint(screen, 'yellow', who(from));
  const what = was === 'holder' ? `takes it from ${whom}${since}` : `takes ${whom} out of the line${since}`;
  const named = keys.slice(0, MOST_KEYS).map(printable);
  const more = keys.length > named.length ? [`and ${String(keys.length - named.length)} more`] : [];
  const how =
    lease === undefined
      ? [`deletes ${counted(keys.length, 'key')}:`]
      : [`revokes the lease ${lease}, which deletes ${counted(keys.length, 'key')}:`];
  const goesOn =
    from.foreign && lease === undefined
      ? 'it is another client, which does not notice that its key is gone: it goes on (--lease ends its session)'
      : 'its program goes on working if it does not heed the loss';
  const lines = [
    `${paint(screen, 'bold', printable(plan.name))}  ${plan.kind}, as of revision ${plan.revision}`,
    `  ${what}`,
    `  ${[...how, ...named, ...more].join(' ')}`,
    ...(was === 'holder' ? [`  next in line: ${next === undefined ? 'nobody' : who(next)}`] : []),
    `  ${goesOn}`,
  ];
  return lines.map((line) => wrap(screen, line, 4)).join('\n');
}

/** Asks on stderr and reads the answer from stdin; its end is a no. */
async function agrees(signal: AbortSignal): Promise<boolean> {
  process.stderr.write('Go on? [y/N] ');
  const lines = createInterface({ input: process.stdin });
  try {
    const answer: IteratorResult<string, unknown> = await orAborted(
      lines[Symbol.asyncIterator]().next(),
      signal,
    );
    return answer.done !== true && /^\s*y(es)?\s*$/i.test(answer.value);
  } finally {
    lines.close();
    process.stdin.destroy();
  }
}
