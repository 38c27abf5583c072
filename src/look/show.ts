/** One name, seen closely: who holds it, who waits in which order, what a queue's workers do. `conclave show` prints it. */
import type { Client } from '../etcd/client.js';
import type { KeyRange } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { QueueKeys } from '../queue/store/keys.js';
import { decodeRecord, type JobError } from '../queue/store/record.js';
import { lineRanges, reservedBelow } from '../ticket/read-line.js';
import { Finds } from './finds.js';
import { scanKeys } from './key-scan.js';
import { leaseTimes } from './lease-times.js';
import { LineLook, readLines } from './line.js';
import { Moment } from './moment.js';
import type { Kind, Name, Party } from './names.js';
import { partyOf } from './party.js';
import { readSpaces } from './spaces.js';

/** How closely a name is looked at. */
export interface ShowOptions {
  /** @default all that the name is used for */
  readonly kinds?: readonly Kind[] | undefined;
  /** So many of those who wait, of a queue's active and of its dead jobs. @default 50 */
  readonly most?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A job that a worker has. */
export interface ActiveJob {
  readonly id: string;
  readonly priority: number;
  /** How often it was claimed, with this time. */
  readonly attempts: number;
}

/** A worker of a queue, and what it does. */
export interface QueueWorker extends Party {
  readonly id: string;
  readonly running: readonly ActiveJob[];
}

/** A job that is out of attempts. */
export interface DeadJob {
  readonly id: string;
  readonly attempts: number;
  /** The latest ten, oldest first. */
  readonly errors: readonly JobError[];
}

/** A queue, beside its counts. */
export interface QueueView {
  readonly workers: readonly QueueWorker[];
  /** Jobs of workers that are gone, until another puts them back. */
  readonly orphans: readonly ActiveJob[];
  readonly dead: readonly DeadJob[];
}

/** A name with those who wait for it, as far as they were asked for. */
export interface Shown extends Name {
  /** In the order in which they will hold; the first `most` of them. */
  readonly waiters: readonly Party[];
  readonly queue?: QueueView;
}

/** What a name is used for. */
export interface NameView {
  readonly revision: string;
  /** Empty: the name is not in use. */
  readonly names: readonly Shown[];
}

/** Reads all that a name is used for, at one revision. Rejects with `COMPACTED` when that is compacted meanwhile. */
export async function showName(client: Client, name: string, options: ShowOptions = {}): Promise<NameView> {
  const { kinds, most = 50, signal } = options;
  const found = new Finds();
  const below = `${name}/`;
  const take = (kv: KeyValue): string | undefined => {
    const hidden = found.take(kv);
    const slash = kv.key.startsWith(below) ? kv.key.indexOf('/', below.length) : -1;
    // What is further down is of other names.
    return hidden ?? (slash < 0 ? undefined : kv.key.slice(0, slash + 1));
  };
  const revision = await scanKeys(client, { end: `${name}0`, start: `${name}.~` }, take, { signal });
  const moment = new Moment(client, revision, signal);
  const isWanted = (kind: Kind): boolean => kinds === undefined || kinds.includes(kind);
  const lines = found.lines
    .filter((line) => line.name === name)
    .map((line) => new LineLook(line, { values: true }));
  const spaces = found.spaces.filter((space) => space.name === name && isWanted(space.space));
  const [, ofSpaces] = await Promise.all([readLines(moment, lines, most + 1), readSpaces(moment, spaces)]);
  const shown: Shown[] = [
    ...lines.map((line) => ({ ...line.report, waiters: line.waiters.slice(0, most) })),
    ...(await Promise.all(
      ofSpaces.map(async (each) => ({
        ...each.name,
        waiters: each.waiters.slice(0, most),
        ...(each.name.kind === 'queue' && { queue: await viewQueue(moment, name, most) }),
      })),
    )),
  ];
  const names = shown.filter(({ kind }) => isWanted(kind));
  return { revision: String(revision), names: await withLeases(moment, names) };
}

/** The ranges whose changes may change what is shown of a name. Jobs are not in them: a queue is looked at again and again. */
export function rangesOf(name: string): KeyRange[] {
  const { control, root } = new QueueKeys(name);
  const reserved = reservedBelow(name).map((prefix) => ({ prefix: prefix === root ? control : prefix }));
  return [...lineRanges(name, `${name}.~`), ...reserved];
}

async function withLeases(moment: Moment, names: readonly Shown[]): Promise<Shown[]> {
  const parties = names.flatMap(({ holders, queue, waiters }) => [
    ...holders,
    ...waiters,
    ...(queue?.workers ?? []),
  ]);
  const timed = await leaseTimes(moment, parties);
  return names.map((name) => ({
    ...name,
    holders: name.holders.map(timed),
    waiters: name.waiters.map(timed),
    ...(name.queue && { queue: { ...name.queue, workers: name.queue.workers.map(timed) } }),
  }));
}

/** What the workers of a queue do, and why jobs died. */
async function viewQueue(moment: Moment, name: string, most: number): Promise<QueueView> {
  const layout = new QueueKeys(name);
  const [workers, active, dead] = await moment.read([
    { options: { limit: most }, range: { prefix: layout.workers } },
    { options: { limit: most }, range: { prefix: layout.prefixOf('active') } },
    { options: { limit: most }, range: { prefix: layout.prefixOf('dead') } },
  ]);
  const running = (active?.kvs ?? []).flatMap((kv) => {
    const entry = layout.parse(kv.key, 'active');
    if (entry === undefined) return [];
    const { id, priority } = entry.place;
    return [{ job: { attempts: decodeRecord(kv).attempts, id, priority }, worker: entry.lead }];
  });
  const jobsOf = (wanted: (worker: string) => boolean): ActiveJob[] =>
    running.filter(({ worker }) => wanted(worker)).map(({ job }) => job);
  const there = (workers?.kvs ?? []).map((kv) => ({ id: kv.key.slice(layout.workers.length), kv }));
  const known = new Set(there.map(({ id }) => id));
  const isWhole = there.length === (workers?.count ?? 0);
  return {
    workers: there.map(({ id, kv }) => ({ ...partyOf(kv), id, running: jobsOf((worker) => worker === id) })),
    orphans: isWhole ? jobsOf((worker) => !known.has(worker)) : [],
    dead: (dead?.kvs ?? []).flatMap((kv) => {
      const entry = layout.parse(kv.key, 'dead');
      if (entry === undefined) return [];
      const { attempts, errors } = decodeRecord(kv);
      return [{ attempts, errors, id: entry.place.id }];
    }),
  };
}
