import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import { op } from '../etcd/op.js';
import type { Session } from '../session/session.js';
import {
  after,
  batches,
  type Entry,
  type Page,
  pages,
  readPage,
  type Stretch,
  stretchOf,
} from './batches.js';
import { Lane } from './lane.js';
import type { JobState, Layout } from './layout.js';
import { newMember } from './member.js';
import { decodeRecord, encodeRecord, type JobError } from './record.js';
import { countDone, lineUp, sameEntry, Tails } from './tails.js';

/** How many jobs there are, all at one revision. */
export interface QueueCounts {
  /** Ready to be taken. */
  readonly waiting: number;
  /** To line up later: pushed with a delay, or failed and in their backoff. */
  readonly delayed: number;
  /** With a worker; or with one that was lost, until another puts them back. */
  readonly active: number;
  /** Out of attempts. */
  readonly dead: number;
}

/** A job as a list shows it. */
export interface JobInfo<T = unknown> {
  readonly id: string;
  readonly state: JobState;
  readonly data: T;
  /** Why `data` is undefined: somebody removed it by hand, or what is there is not JSON. Absent when all is well. */
  readonly spoilt?: string;
  readonly priority: number;
  /** How often it has been claimed. */
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly pushedAt: Date;
  /** Why attempts failed, the latest ten. */
  readonly errors: readonly JobError[];
  /** When a delayed job lines up. */
  readonly dueAt?: Date;
  /** The worker that has an active job. */
  readonly worker?: string;
}

/** Which dead jobs are meant. */
export interface DeadOptions {
  /** Only these. @default all */
  readonly ids?: Iterable<string> | undefined;
}

export const JOB_STATES = ['waiting', 'delayed', 'active', 'dead'] as const;

/** Which jobs are meant; undefined: all. */
type Ids = ReadonlySet<string> | undefined;

/** Counts the jobs. etcd walks over all of them for that, and over what was there until it is compacted. */
export async function countJobs(client: Client, layout: Layout): Promise<QueueCounts> {
  const { responses } = await client.kv.txn({
    then: JOB_STATES.map((state) => op.get({ prefix: layout.prefixOf(state) }, { countOnly: true })),
  });
  const [waiting = 0, delayed = 0, active = 0, dead = 0] = responses.map((response) =>
    response.type === 'get' ? Number(response.count) : 0,
  );
  return { active, dead, delayed, waiting };
}

/**
 * The jobs of a state in their order, page by page, as they were at one revision. When that is compacted meanwhile, it goes
 * on behind the last one at a later revision.
 */
export async function* listJobs<T>(
  client: Client,
  layout: Layout,
  state: JobState,
): AsyncGenerator<JobInfo<T>, void, undefined> {
  let revision: bigint | undefined;
  for (let rest: Stretch | undefined = stretchOf(layout.prefixOf(state)); rest !== undefined;) {
    try {
      const page: Page = await readPage(client, rest, revision);
      revision ??= page.revision;
      for (const batch of batches(layout, state, page.kvs)) {
        const looks = batch.map(({ place }) => op.get(layout.body(place.id), { revision }));
        const { responses } = await client.kv.txn({ then: looks });
        for (const [at, entry] of batch.entries()) {
          const response = responses[at];
          rest = { end: rest.end, start: after(entry.kv) };
          yield jobInfo<T>(layout, state, entry, response?.type === 'get' ? response.kvs[0] : undefined);
        }
      }
      rest = page.rest;
    } catch (error) {
      if (!hasCode(error, 'COMPACTED')) throw error;
      revision = undefined;
    }
  }
}

function jobInfo<T>(
  layout: Layout,
  state: JobState,
  { kv, place }: Entry,
  body: KeyValue | undefined,
): JobInfo<T> {
  const { attempts, errors, maxAttempts, pushedAt } = decodeRecord(kv.string());
  const lead = layout.parse(kv.key, state)?.lead ?? '';
  return {
    id: place.id,
    state,
    ...readBody<T>(kv, body),
    priority: place.priority,
    attempts,
    maxAttempts,
    pushedAt: new Date(pushedAt),
    errors,
    ...(state === 'delayed' && { dueAt: new Date(parseInt(lead, 16)) }),
    ...(state === 'active' && { worker: lead }),
  };
}

function readBody<T>(entry: KeyValue, body: KeyValue | undefined): { data: T; spoilt?: string } {
  const spoilt = (why: string): { data: T; spoilt: string } => ({ data: undefined as T, spoilt: why });
  if (body === undefined) return spoilt('the key with its data is missing');
  if (body.createRevision > entry.createRevision) {
    return spoilt('its data was removed; what is there belongs to a later job of the same id');
  }
  try {
    return { data: body.json() as T };
  } catch (error) {
    return spoilt(`its data is not JSON: ${String(error)}`);
  }
}

/** Lines dead jobs up again, at the end, with all their attempts before them and their errors kept. */
export async function retryDead(session: Session, layout: Layout, ids: Ids): Promise<number> {
  const { client } = session;
  const fresh = (kv: KeyValue): string => encodeRecord({ ...decodeRecord(kv.string()), attempts: 0 });
  const also = (entry: Entry): Compare => ownData(layout, entry);
  const tails = new Tails(layout);
  return withDead(session, layout, ids, (batch, lane) =>
    lineUp(batch, { also, client, layout, run: (spec) => lane.run(spec), tails, value: fresh }),
  );
}

/** Removes dead jobs with their data. */
export async function removeDead(session: Session, layout: Layout, ids: Ids): Promise<number> {
  return withDead(session, layout, ids, async (batch, lane) => {
    const then = batch.map((entry) => {
      const data = op.txn({ if: [ownData(layout, entry)], then: [op.delete(layout.body(entry.place.id))] });
      return op.txn({ if: [sameEntry(entry)], then: [op.delete(entry.kv.keyBytes), data] });
    });
    const outcome = await lane.run({ then });
    return outcome.is === 'refused' ? 0 : countDone(session.client, batch, outcome, 0);
  });
}

/** Holds while the data that is there, if any, is this job's, and not that of a later one of the same id. */
function ownData(layout: Layout, { kv, place }: Entry): Compare {
  return compare.createRevision(layout.body(place.id), '<', kv.createRevision + 1n);
}

/** Does something with the jobs that are dead now, in a lane, so that it can be told what came of it. Resolves with the sum. */
async function withDead(
  session: Session,
  layout: Layout,
  ids: Ids,
  body: (batch: readonly Entry[], lane: Lane) => Promise<number>,
): Promise<number> {
  const { client } = session;
  const lane = await Lane.open(session, layout.lane(newMember(session), 'dead'));
  try {
    const { revision } = await client.kv.range(layout.root, { countOnly: true });
    let sum = 0;
    for await (const kvs of pages(client, stretchOf(layout.prefixOf('dead')))) {
      // Those that have died since, perhaps because we lined them up, are not meant.
      const meant = kvs.filter((kv) => kv.modRevision <= revision && isMeant(layout, kv, ids));
      for (const batch of batches(layout, 'dead', meant)) sum += await body(batch, lane);
    }
    return sum;
  } finally {
    if (session.alive) await lane.close();
  }
}

function isMeant(layout: Layout, kv: KeyValue, ids: Ids): boolean {
  return ids?.has(layout.parse(kv.key, 'dead')?.place.id ?? '') ?? true;
}
