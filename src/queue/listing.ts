import type { Client } from '../etcd/client.js';
import { compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import { op } from '../etcd/op.js';
import type { JobState, Layout } from './layout.js';
import { decodeRecord, encodeRecord, type JobError } from './record.js';
import { lineUp, Tails } from './tails.js';

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
const PAGE = 60;

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

/** The jobs of a state in their order, page by page, as they were at one revision. */
export async function* listJobs<T>(
  client: Client,
  layout: Layout,
  state: JobState,
): AsyncGenerator<JobInfo<T>, void, undefined> {
  let revision: bigint | undefined;
  for await (const kvs of pages(client, layout, state)) {
    revision ??= kvs.revision;
    const { responses } = await client.kv.txn({
      then: kvs.entries.map(({ id }) => op.get(layout.body(id), { revision })),
    });
    for (const [at, { kv }] of kvs.entries.entries()) {
      const response = responses[at];
      const body = response?.type === 'get' ? response.kvs[0] : undefined;
      if (body !== undefined) yield jobInfo<T>(layout, state, kv, body);
    }
  }
}

function jobInfo<T>(layout: Layout, state: JobState, kv: KeyValue, body: KeyValue): JobInfo<T> {
  const parsed = layout.parse(kv.key, state);
  const { attempts, errors, maxAttempts, pushedAt } = decodeRecord(kv.string());
  return {
    id: parsed?.place.id ?? '',
    state,
    data: body.json() as T,
    priority: parsed?.place.priority ?? 0,
    attempts,
    maxAttempts,
    pushedAt: new Date(pushedAt),
    errors,
    ...(state === 'delayed' && { dueAt: new Date(parseInt(parsed?.lead ?? '0', 16)) }),
    ...(state === 'active' && { worker: parsed?.lead ?? '' }),
  };
}

/** Lines dead jobs up again, at the end, with all their attempts before them and their errors kept. */
export async function retryDead(client: Client, layout: Layout, ids: Ids): Promise<number> {
  const tails = new Tails(layout);
  const fresh = (kv: KeyValue): string => encodeRecord({ ...decodeRecord(kv.string()), attempts: 0 });
  let moved = 0;
  for await (const { entries } of pages(client, layout, 'dead', ids)) {
    const kvs = entries.map(({ kv }) => kv);
    moved += await lineUp(kvs, { client, from: 'dead', layout, tails, value: fresh });
  }
  return moved;
}

/** Removes dead jobs with their data. */
export async function removeDead(client: Client, layout: Layout, ids: Ids): Promise<number> {
  let removed = 0;
  for await (const { entries } of pages(client, layout, 'dead', ids)) {
    const steps = entries.map(({ id, kv }) =>
      op.txn({
        if: [compare.modRevision(kv.keyBytes, '=', kv.modRevision)],
        then: [op.delete(kv.keyBytes), op.delete(layout.body(id))],
      }),
    );
    const { responses } = await client.kv.txn({ then: steps }, { idempotent: true });
    removed += responses.filter((answer) => answer.type === 'txn' && answer.succeeded).length;
  }
  return removed;
}

interface Page {
  readonly revision: bigint;
  readonly entries: readonly { readonly id: string; readonly kv: KeyValue }[];
}

async function* pages(
  client: Client,
  layout: Layout,
  state: JobState,
  wanted?: Ids,
): AsyncGenerator<Page, void, undefined> {
  const { revision } = await client.kv.range(layout.root, { countOnly: true });
  let entries: { readonly id: string; readonly kv: KeyValue }[] = [];
  for await (const kv of client.kv.scan({ prefix: layout.prefixOf(state) }, { revision })) {
    const id = layout.parse(kv.key, state)?.place.id;
    if (id === undefined || wanted?.has(id) === false) continue;
    entries.push({ id, kv });
    if (entries.length < PAGE) continue;
    yield { entries, revision };
    entries = [];
  }
  if (entries.length > 0) yield { entries, revision };
}
