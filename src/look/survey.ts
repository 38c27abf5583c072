/** Finding every name that is in use, by the keys of the store, and who holds it: what `conclave ls` prints. */
import type { Client } from '../etcd/client.js';
import { Finds } from './finds.js';
import { scanKeys } from './key-scan.js';
import { leaseTimes } from './lease-times.js';
import { LineLook, readLines } from './line.js';
import { Moment } from './moment.js';
import type { Kind, Name } from './names.js';
import { readSpaces } from './spaces.js';

/** Which names are meant. */
export interface SurveyOptions {
  /** What their names begin with. @default all */
  readonly prefix?: string | undefined;
  /** @default all kinds */
  readonly kinds?: readonly Kind[] | undefined;
  /** Only those that somebody at this host holds; or `host:pid`, one process. */
  readonly heldBy?: string | undefined;
  /** Only those for which somebody waits. */
  readonly waiting?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Every name that is in use. */
export interface Survey {
  /** The store's revision as of which this is so. */
  readonly revision: string;
  /** Whether it was asked what is left of the holders' leases: not of more than 500, since etcd is asked for each. */
  readonly leasesAsked: boolean;
  readonly names: readonly Name[];
}

const MOST_LEASES = 500;

/**
 * Reads which names are in use, and by whom, all at one revision. Keys are read without their values, but for those that
 * say who holds a name and who is the first to wait; jobs and the waiting are counted, not read. Rejects with `COMPACTED`
 * when the revision is compacted meanwhile.
 */
export async function survey(client: Client, options: SurveyOptions = {}): Promise<Survey> {
  const { prefix = '', signal } = options;
  const found = new Finds();
  const revision = await scanKeys(client, { prefix }, (kv) => found.take(kv), { signal });
  const moment = new Moment(client, revision, signal);
  const names = await read(moment, found, options.kinds);
  const shown = names.filter((name) => isMeant(name, prefix, options));
  const order = (one: Name, other: Name): number =>
    Buffer.compare(Buffer.from(one.name), Buffer.from(other.name)) || (one.kind < other.kind ? -1 : 1);
  shown.sort(order);
  const leasesAsked = shown.reduce((sum, { holders }) => sum + holders.length, 0) <= MOST_LEASES;
  const timed = await leaseTimes(moment, leasesAsked ? shown.flatMap(({ holders }) => holders) : []);
  return {
    revision: String(revision),
    leasesAsked,
    names: shown.map((name) => ({ ...name, holders: name.holders.map(timed) })),
  };
}

async function read(moment: Moment, found: Finds, kinds: readonly Kind[] | undefined): Promise<Name[]> {
  const isWanted = (kind: Kind): boolean => kinds === undefined || kinds.includes(kind);
  const lines = LINES.some(isWanted) ? found.lines.map((line) => new LineLook(line)) : [];
  const [, spaces] = await Promise.all([
    readLines(moment, lines),
    readSpaces(
      moment,
      found.spaces.filter(({ space }) => isWanted(space)),
    ),
  ]);
  const others = spaces.map(({ name }) => name);
  return [...lines.map(({ report }) => report), ...others].filter(({ kind }) => isWanted(kind));
}

const LINES = ['lock', 'rw-lock', 'semaphore', 'election'] as const;

function isMeant({ holders, name, waiting }: Name, prefix: string, options: SurveyOptions): boolean {
  const { heldBy } = options;
  if (!name.startsWith(prefix)) return false;
  if (options.waiting === true && waiting === 0) return false;
  return (
    heldBy === undefined ||
    holders.some(({ host, pid }) => host === heldBy || `${host ?? ''}:${String(pid)}` === heldBy)
  );
}
