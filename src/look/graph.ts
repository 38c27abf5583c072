/**
 * Who waits for whom, over all names that are lines: sessions, told apart by their leases, and the names between them.
 *
 * Not seen: which task of a session holds and which one waits. A cycle is a deadlock unless another task of one of its
 * sessions gives back what the session holds. Barriers, latches and queues do not say who waits for them.
 */
import type { Client } from '../etcd/client.js';
import { Finds } from './finds.js';
import { scanKeys } from './key-scan.js';
import { LineLook, readLines } from './line.js';
import { Moment } from './moment.js';
import type { Kind, Party } from './names.js';

/** A session that holds or waits. */
export type GraphSession = Pick<Party, 'foreign' | 'host' | 'label' | 'pid'> & {
  /** In hex: what a session is told from others by. */
  readonly lease: string;
};

/** A name that somebody waits for. */
export interface GraphName {
  readonly kind: Kind;
  readonly name: string;
  /** The leases of those who hold it. */
  readonly holders: readonly string[];
  /** Those who wait, in order. */
  readonly waiters: readonly { readonly lease: string; readonly since?: string | undefined }[];
}

/** A session that is part of a cycle: it waits for a name that the next one holds; the last waits for the first. */
export interface CycleStep extends GraphSession {
  readonly waitsFor: string;
  /** Whether others hold that name beside the next one, so that it may be enough that they give it back. */
  readonly shared: boolean;
}

/** Who waits for whom. */
export interface Graph {
  readonly revision: string;
  readonly sessions: readonly GraphSession[];
  readonly names: readonly GraphName[];
  /** One cycle, the shortest, of each group of sessions that wait for one another. */
  readonly cycles: readonly (readonly CycleStep[])[];
}

/** Reads who waits for whom, at one revision: of the names that begin with `prefix`. Rejects with `COMPACTED` when that is compacted meanwhile. */
export async function readGraph(client: Client, prefix = '', signal?: AbortSignal): Promise<Graph> {
  const found = new Finds();
  const revision = await scanKeys(client, { prefix }, (kv) => found.take(kv), { signal });
  const contended = found.lines.filter(({ name, tickets }) => tickets.length > 1 && name.startsWith(prefix));
  const looks = contended.map((line) => new LineLook(line));
  await readLines(new Moment(client, revision, signal), looks, Infinity);
  const sessions = new Map<string, GraphSession>();
  const leaseOf = ({ foreign, host, label, lease = '', pid }: Party): string => {
    const known = sessions.get(lease);
    if (known === undefined || known.foreign) {
      const who = { ...(host !== undefined && { host }), ...(pid !== undefined && { pid }) };
      sessions.set(lease, { lease, ...who, ...(label !== undefined && { label }), foreign });
    }
    return lease;
  };
  const names = looks
    .filter((look) => look.report.waiting > 0)
    .map((look): GraphName => {
      const { holders, kind, name } = look.report;
      const waiters = look.waiters.map((party) => ({ lease: leaseOf(party), since: party.since }));
      return { kind, name, holders: holders.map(leaseOf), waiters };
    });
  const named = new Set(
    names.flatMap(({ holders, waiters }) => [...holders, ...waiters.map(({ lease }) => lease)]),
  );
  return {
    revision: String(revision),
    sessions: [...sessions.values()].filter(({ lease }) => named.has(lease)),
    names,
    cycles: cyclesOf(names, sessions),
  };
}

/** One session waits for another, in the line of `name`. */
interface Edge {
  readonly to: string;
  readonly name: string;
  readonly shared: boolean;
}

/** One shortest cycle of each group of sessions that can be reached from one another. */
function cyclesOf(names: readonly GraphName[], sessions: ReadonlyMap<string, GraphSession>): CycleStep[][] {
  const edges = new Map<string, Edge[]>();
  for (const { holders, kind, name, waiters } of names) {
    const shared = kind === 'semaphore' || holders.length > 1;
    for (const { lease } of waiters) {
      const own = edges.get(lease) ?? [];
      edges.set(lease, own);
      // A session that waits for itself has another task that holds it.
      for (const to of new Set(holders)) if (to !== lease) own.push({ name, shared, to });
    }
  }
  const cycles: CycleStep[][] = [];
  const done = new Set<string>();
  for (const start of edges.keys()) {
    if (done.has(start)) continue;
    const way = shortestBack(edges, start);
    if (way === undefined) continue;
    cycles.push(
      way.map(({ from, edge: { name, shared } }) => {
        const session = sessions.get(from) ?? { foreign: true, lease: from };
        return { ...session, shared, waitsFor: name };
      }),
    );
    // Whoever can be reached from here, and reaches back, is of the same group.
    for (const each of reachable(edges, start)) if (reachable(edges, each).has(start)) done.add(each);
  }
  return cycles;
}

/** The steps of the shortest way from a session back to itself. */
function shortestBack(
  edges: ReadonlyMap<string, readonly Edge[]>,
  start: string,
): { readonly from: string; readonly edge: Edge }[] | undefined {
  const cameBy = new Map<string, { readonly from: string; readonly edge: Edge }>();
  const queue = [start];
  for (const from of queue) {
    for (const edge of edges.get(from) ?? []) {
      if (cameBy.has(edge.to)) continue;
      cameBy.set(edge.to, { edge, from });
      if (edge.to === start) return wayBack(cameBy, start);
      queue.push(edge.to);
    }
  }
  return undefined;
}

function wayBack<Step extends { readonly from: string }>(
  cameBy: ReadonlyMap<string, Step>,
  start: string,
): Step[] {
  const way: Step[] = [];
  let at = start;
  do {
    const step = cameBy.get(at);
    if (step === undefined) return way;
    way.unshift(step);
    at = step.from;
  } while (at !== start);
  return way;
}

function reachable(edges: ReadonlyMap<string, readonly Edge[]>, start: string): ReadonlySet<string> {
  const seen = new Set([start]);
  for (const each of seen) for (const { to } of edges.get(each) ?? []) seen.add(to);
  return seen;
}
