/** Looking at a queue's jobs, and what is done with dead ones. */
import { hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import type { Compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { op } from '../../etcd/kv/op.js';
import type { Session } from '../../session/session.js';
import {
  after,
  batches,
  type Entry,
  type Page,
  pages,
  readPage,
  type Stretch,
  stretchOf,
} from '../store/batches.js';
import { FencedWriter } from '../store/fenced-writer.js';
import type { JobState, QueueKeys } from '../store/keys.js';
import { forgetClientId, newClientId } from '../store/client-id.js';
import { dataOf, readBodies, type Wanted } from '../store/bodies.js';
import { decodeRecord, encodeRecord, type JobError, type StoredRecord } from '../store/record.js';
import { isOwnData, removal } from '../produce/forget.js';
import { append, countDone } from '../produce/append.js';
import { Sequences } from '../produce/sequences.js';

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
  /** Until when a job that is done is kept. */
  readonly keptUntil?: Date;
  /** The worker that has an active job. */
  readonly worker?: string;
}

/** Which dead jobs are meant. */
export interface DeadOptions {
  /** Only these. @default all */
  readonly ids?: Iterable<string> | undefined;
}

export const JOB_STATES = ['waiting', 'delayed', 'active', 'dead', 'done'] as const;
const COUNTED = ['waiting', 'delayed', 'active', 'dead'] as const;

/** Entries that are read in one transaction: each is 10 KB at most, with ten errors. */
const MOST_LOOKS = 50;

/** Which jobs are meant; undefined: all. */
type Ids = ReadonlySet<string> | undefined;

/** Counts the jobs. etcd walks over all of them for that, and over what was there until it is compacted. */
export async function countJobs(client: Client, layout: QueueKeys): Promise<QueueCounts> {
  const { responses } = await client.kv.txn({
    then: COUNTED.map((state) => op.get({ prefix: layout.prefixOf(state) }, { countOnly: true })),
  });
  const [waiting = 0, delayed = 0, active = 0, dead = 0] = responses.map(({ count }) => Number(count));
  return { active, dead, delayed, waiting };
}

/**
 * The jobs of a state in their order, page by page, as they were at one revision. When that is compacted meanwhile, it goes
 * on behind the last one at a later revision.
 */
export async function* listJobs<T>(
  client: Client,
  layout: QueueKeys,
  state: JobState,
): AsyncGenerator<JobInfo<T>, void, undefined> {
  let revision: bigint | undefined;
  for (let rest: Stretch | undefined = stretchOf(layout.prefixOf(state)); rest !== undefined;) {
    try {
      const page: Page = await readPage(client, rest, { revision });
      revision ??= page.revision;
      for (let entries = entriesOf(layout, state, page.kvs); entries.length > 0;) {
        const bodies = await readBodies(client, layout, entries, revision);
        for (const [at, entry] of entries.slice(0, bodies.length).entries()) {
          rest = { ...rest, start: after(entry.kv) };
          yield jobInfo<T>(layout, state, entry, bodies[at]);
        }
        entries = entries.slice(bodies.length);
      }
      rest = page.rest;
    } catch (error) {
      if (!hasCode(error, 'COMPACTED')) throw error;
      revision = undefined;
    }
  }
}

/** An entry, and how large its job's data is. */
interface ListedEntry extends Entry, Wanted {
  readonly record: StoredRecord;
}

function entriesOf(layout: QueueKeys, state: JobState, kvs: readonly KeyValue[]): ListedEntry[] {
  return kvs.flatMap((kv) => {
    const place = layout.parse(kv.key, state)?.place;
    if (place === undefined) return [];
    const record = decodeRecord(kv);
    return [{ bytes: record.bytes, id: place.id, kv, place, record }];
  });
}

function jobInfo<T>(
  layout: QueueKeys,
  state: JobState,
  { kv, place, record }: ListedEntry,
  body: KeyValue | undefined,
): JobInfo<T> {
  const { attempts, errors, maxAttempts, pushedAt } = record;
  const lead = layout.parse(kv.key, state)?.lead ?? '';
  return {
    id: place.id,
    state,
    ...(dataOf(body, record) as { data: T; spoilt?: string }),
    priority: place.priority,
    attempts,
    maxAttempts,
    pushedAt: new Date(pushedAt),
    errors,
    ...(state === 'delayed' && { dueAt: new Date(parseInt(lead, 16)) }),
    ...(state === 'done' && { keptUntil: new Date(parseInt(lead, 16)) }),
    ...(state === 'active' && { worker: lead }),
  };
}

/** Lines dead jobs up again, at the end, with all their attempts before them and their errors kept. */
export async function retryDead(session: Session, layout: QueueKeys, ids: Ids): Promise<number> {
  const fresh = (kv: KeyValue): string => encodeRecord({ ...decodeRecord(kv), attempts: 0 });
  const also = (entry: Entry): Compare => isOwnData(layout, entry);
  const sequences = new Sequences(session, layout);
  return withDead(session, layout, ids, (batch, lane) =>
    append(batch, {
      also,
      client: session.client,
      layout,
      run: (spec) => lane.run(spec),
      sequences,
      value: fresh,
    }),
  );
}

/** Removes dead jobs with their data. */
export async function removeDead(session: Session, layout: QueueKeys, ids: Ids): Promise<number> {
  return withDead(session, layout, ids, async (batch, lane) => {
    const then = batch.map((entry) => removal(layout, entry));
    return countDone(session.client, batch, await lane.run({ then }));
  });
}

/** Does something with the jobs that are dead now, by a fenced writer, so that it can be told what came of it. Resolves with the sum. */
async function withDead(
  session: Session,
  layout: QueueKeys,
  ids: Ids,
  body: (batch: readonly Entry[], lane: FencedWriter) => Promise<number>,
): Promise<number> {
  const { client } = session;
  const id = newClientId(session);
  const lane = await FencedWriter.open(session, layout.lane(id, 'dead'));
  try {
    const { revision } = await client.kv.range(layout.root, { countOnly: true });
    let sum = 0;
    // For some of them, the keys tell which; their errors need not be read.
    for await (const kvs of pages(client, stretchOf(layout.prefixOf('dead')), {
      keysOnly: ids !== undefined,
    })) {
      // Those that have died since, perhaps because we lined them up, are not meant.
      const meant = kvs.filter((kv) => kv.modRevision <= revision && isMeant(layout, kv, ids));
      const entries = ids === undefined ? meant : await withValues(client, meant);
      for (const batch of batches(layout, 'dead', entries)) sum += await body(batch, lane);
    }
    return sum;
  } finally {
    if (session.alive) await lane.close();
    forgetClientId(session, id);
  }
}

function isMeant(layout: QueueKeys, kv: KeyValue, ids: Ids): boolean {
  return ids?.has(layout.parse(kv.key, 'dead')?.place.id ?? '') ?? true;
}

/** The keys that are still as they were, with their values. */
async function withValues(client: Client, kvs: readonly KeyValue[]): Promise<KeyValue[]> {
  const found: KeyValue[] = [];
  for (let at = 0; at < kvs.length; at += MOST_LOOKS) {
    const part = kvs.slice(at, at + MOST_LOOKS);
    const { responses } = await client.kv.txn({ then: part.map(({ keyBytes }) => op.get(keyBytes)) });
    for (const [index, { modRevision }] of part.entries()) {
      const response = responses[index];
      const kv = response?.type === 'get' ? response.kvs[0] : undefined;
      if (kv?.modRevision === modRevision) found.push(kv);
    }
  }
  return found;
}
