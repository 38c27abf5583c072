/** `conclave graph`: who waits for whom, as a tree or for Graphviz. */
import { type Graph, type GraphName, type GraphSession, readGraph } from '../../look/graph.js';
import { EXIT } from '../exit-codes.js';
import { type Flag, type Page, UsageError } from '../usage.js';
import { LOOK_FLAGS, LOOK_NOTES, looking, print, readLookArgs } from './looking.js';
import { who } from './ls.js';
import { ago, counted, paint, printable, type Screen, screenOf, wrap } from './screen.js';

const FLAGS = {
  dot: { help: "print it in Graphviz's language" },
  ...LOOK_FLAGS,
} as const satisfies Record<string, Flag>;

export const GRAPH_PAGE: Page<keyof typeof FLAGS> = {
  name: 'graph',
  usage: ['graph [OPTION …] [PREFIX]'],
  about: `Shows who waits for whom over all locks, semaphores and elections that begin with PREFIX: below each session the names
that it holds and others wait for, below each name those who wait, in order. Sessions that wait for one another are
named first, as a deadlock.

Example: a picture of it
  conclave graph --dot deploy/ | dot -Tsvg > waits.svg`,
  flags: FLAGS,
  notes: `${LOOK_NOTES}\nHere 1: there is a deadlock.`,
};

/** `conclave graph`. Resolves with the exit code: 1 when there is a cycle. */
export async function graph(argv: readonly string[]): Promise<number> {
  const typed = readLookArgs(GRAPH_PAGE, argv);
  const [prefix = '', surplus] = typed.positionals;
  if (surplus !== undefined)
    throw new UsageError(`graph takes one prefix, not ${JSON.stringify(surplus)}, too`);
  if (typed.has('json') && typed.has('dot')) throw new UsageError('give --json or --dot, not both');
  return looking('graph', typed, async (client, signal) => {
    const seen = await readGraph(client, prefix, signal);
    if (typed.has('json')) await print(JSON.stringify(seen));
    else if (typed.has('dot')) await print(dotOf(seen));
    else if (seen.names.length > 0) await print(textOf(seen, screenOf(), client.clock.wall()));
    return seen.cycles.length > 0 ? EXIT.no : EXIT.ok;
  });
}

function textOf(seen: Graph, screen: Screen, nowMs: number): string {
  const tree = new Tree(seen, screen, nowMs);
  return [...deadlocks(seen, screen), ...tree.lines()].map((line) => wrap(screen, line, 4)).join('\n');
}

function deadlocks({ cycles }: Graph, screen: Screen): string[] {
  return cycles.flatMap((cycle) => {
    const isShared = cycle.some(({ shared }) => shared);
    const title = paint(screen, 'red', isShared ? 'PERHAPS A DEADLOCK' : 'DEADLOCK');
    const unless = isShared
      ? 'unless somebody else who holds the same gives it back'
      : 'unless another task of theirs gives back what they hold';
    const steps = cycle.map((step, at) => {
      const holds = cycle.at(at - 1)?.waitsFor ?? '';
      return `  ${partyOf(step)} holds ${printable(holds)} and waits for ${printable(step.waitsFor)}`;
    });
    return [`${title}: ${counted(cycle.length, 'session')} wait for one another, ${unless}:`, ...steps, ''];
  });
}

function partyOf(session: GraphSession): string {
  return who({ ...session, createRevision: '', key: '', modRevision: '' });
}

/** Sessions, below each the names it holds, below each those who wait; a session that was shown is not shown again. */
class Tree {
  readonly #graph: Graph;
  readonly #sessions: ReadonlyMap<string, GraphSession>;
  readonly #screen: Screen;
  readonly #nowMs: number;
  readonly #held = new Map<string, GraphName[]>();
  readonly #shown = new Set<string>();
  readonly #lines: string[] = [];

  constructor(seen: Graph, screen: Screen, nowMs: number) {
    this.#graph = seen;
    this.#sessions = new Map(seen.sessions.map((session) => [session.lease, session]));
    this.#screen = screen;
    this.#nowMs = nowMs;
    for (const name of seen.names)
      for (const lease of new Set(name.holders))
        this.#held.set(lease, [...(this.#held.get(lease) ?? []), name]);
  }

  lines(): readonly string[] {
    const waiting = new Set(this.#graph.names.flatMap(({ waiters }) => waiters.map(({ lease }) => lease)));
    const holding = [...this.#held.keys()];
    // First those who wait for nobody; those that are left are in cycles, or behind one.
    for (const lease of holding) if (!waiting.has(lease)) this.#session(lease, '', '');
    for (const lease of holding) if (!this.#shown.has(lease)) this.#session(lease, '', '');
    return this.#lines;
  }

  #session(lease: string, indent: string, more: string): void {
    const session = this.#sessions.get(lease);
    const names = this.#held.get(lease) ?? [];
    const again = this.#shown.has(lease) && names.length > 0 ? ' (see above)' : '';
    const text = session === undefined ? `lease ${lease}` : partyOf(session);
    this.#lines.push(`${indent}${paint(this.#screen, 'green', text)}${more}${again}`);
    if (again !== '') return;
    this.#shown.add(lease);
    for (const name of names) {
      const others = name.holders.length > 1 ? `, with ${counted(name.holders.length - 1, 'other')}` : '';
      this.#lines.push(
        `${indent}  ${paint(this.#screen, 'bold', printable(name.name))} ${name.kind}${others}`,
      );
      for (const waiter of name.waiters) {
        const since = waiter.since === undefined ? '' : ` for ${ago(waiter.since, this.#nowMs)}`;
        this.#session(waiter.lease, `${indent}    `, since);
      }
    }
  }
}

function dotOf({ cycles, names, sessions }: Graph): string {
  const inCycle = new Set(cycles.flat().map(({ lease, waitsFor }) => `${lease} ${waitsFor}`));
  const quoted = (text: string): string => `"${printable(text).replaceAll(/["\\]/g, (each) => `\\${each}`)}"`;
  const nodes = sessions.map((session) => `  ${quoted(session.lease)} [label=${quoted(partyOf(session))}];`);
  const edges = names.flatMap(({ holders, name, waiters }) =>
    waiters.flatMap(({ lease }) => {
      const red = inCycle.has(`${lease} ${name}`) ? ', color=red, fontcolor=red' : '';
      const to = [...new Set(holders)].filter((holder) => holder !== lease);
      return to.map((holder) => `  ${quoted(lease)} -> ${quoted(holder)} [label=${quoted(name)}${red}];`);
    }),
  );
  return ['digraph waits {', '  node [shape=box];', ...nodes, ...edges, '}'].join('\n');
}
