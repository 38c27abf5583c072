/** Pushes of one queue object: what is asked for while a transaction is under way goes together with the next one. */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import type { OpResult } from '../../etcd/kv/kv.js';
import { op, type TxnSpec } from '../../etcd/kv/op.js';
import { untilAnswered } from '../../etcd/transport/until-answered.js';
import type { Session } from '../../session/session.js';
import { Deferred } from '../../util/deferred.js';
import type { FencedWriter } from '../store/fenced-writer.js';
import type { QueueKeys, Place } from '../store/keys.js';
import { forgetDone } from './forget.js';
import { encodeRecord, type JobRecord } from '../store/record.js';
import { type Append, Sequences } from './sequences.js';

/** A job to push, checked and ready. */
export interface NewJob {
  readonly id: string;
  /** Whether the caller chose the id, so that the job may be there already. */
  readonly named: boolean;
  readonly priority: number;
  readonly delayMs: number;
  /** JSON. */
  readonly body: string;
  readonly record: JobRecord;
}

/** What a push did. */
export interface PushResult {
  readonly id: string;
  /** Whether a job of this id was there already, so that nothing was pushed. */
  readonly deduplicated: boolean;
}

interface PendingPush {
  readonly job: NewJob;
  readonly done: (deduplicated: boolean) => void;
  readonly failed: (error: unknown) => void;
}

/** Jobs in one transaction; its own level and that of the jobs must stay within etcd's 128 operations. */
const MOST_JOBS = 100;
const MOST_PRIORITIES = 16;
/** Bytes in one transaction, unless a single job has more. */
const MOST_BYTES = 512 * 1024;
/** etcd takes requests of 1.5 MiB by default. */
const MOST_JOB_BYTES = 1_572_000;
/** How often a push names a key of the job, its priority's sequence or its writer. */
const KEYS_EACH = 12;

export class Producer {
  readonly #session: Session;
  readonly #layout: QueueKeys;
  readonly #openWriter: () => Promise<FencedWriter>;
  readonly #sequences: Sequences;
  #pending: PendingPush[] = [];
  #pumping: Promise<void> | undefined;

  constructor(session: Session, layout: QueueKeys, openWriter: () => Promise<FencedWriter>) {
    this.#session = session;
    this.#layout = layout;
    this.#openWriter = openWriter;
    this.#sequences = new Sequences(session, layout);
  }

  /** Resolves when all of them are in etcd, with a result for each; rejects when one of them is not known to be. */
  async push(jobs: readonly NewJob[]): Promise<PushResult[]> {
    this.#session.throwIfEnded();
    if (jobs.length === 0) return [];
    for (const job of jobs) checkSize(job, this.#layout);
    const results = jobs.map(({ id }) => ({ deduplicated: false, id }));
    const all = new Deferred<void>();
    let left = jobs.length;
    let failure: { readonly error: unknown } | undefined;
    const settled = (): void => {
      left -= 1;
      if (left > 0) return;
      if (failure === undefined) all.resolve();
      else all.reject(failure.error);
    };
    for (const [at, job] of jobs.entries()) {
      this.#pending.push({
        done: (deduplicated) => {
          results[at] = { deduplicated, id: job.id };
          settled();
        },
        failed: (error) => {
          failure ??= { error };
          settled();
        },
        job,
      });
    }
    this.#pumping ??= this.#pump();
    await all.promise;
    return results;
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#pumping;
  }

  async #pump(): Promise<void> {
    // Whoever pushes in the same turn goes along.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      const batch = this.#nextBatch();
      try {
        await this.#send(batch);
      } catch (error) {
        for (const each of batch) each.failed(error);
      }
    }
    this.#pumping = undefined;
  }

  #nextBatch(): PendingPush[] {
    const priorities = new Set<number>();
    const ids = new Set<string>();
    let bytes = 0;
    let count = 0;
    for (const { job } of this.#pending) {
      bytes += sizeOf(job, this.#layout);
      priorities.add(job.priority);
      const full = count >= MOST_JOBS || bytes > MOST_BYTES || priorities.size > MOST_PRIORITIES;
      // etcd looks at all conditions of a transaction before it does anything, and refuses to write a key twice.
      if ((full && count > 0) || ids.has(job.id)) break;
      ids.add(job.id);
      count += 1;
    }
    const batch = this.#pending.slice(0, count);
    this.#pending = this.#pending.slice(count);
    return batch;
  }

  async #send(batch: readonly PendingPush[]): Promise<void> {
    const writer = await this.#openWriter();
    const dues = batch.filter(({ job }) => job.delayMs > 0).map(({ job }) => dueMs(job));
    const announce = dues.length === 0 ? [] : [op.put(this.#layout.due, String(Math.min(...dues)))];
    const jobs = batch.map(({ job }) => this.#append(job));
    const outcome = await this.#sequences.append(jobs, (spec) => writer.run(spec), announce);
    const kept = new Map<string, PendingPush>();
    if (outcome.is === 'applied') settle(batch, outcome.responses, kept);
    else await this.#findOut(batch, outcome.revision, kept);
    if (kept.size > 0) await this.#pushOver(kept, writer);
  }

  /** These ids may be those of jobs that are done and were kept long enough: then the pushes are done after all. */
  async #pushOver(kept: ReadonlyMap<string, PendingPush>, writer: FencedWriter): Promise<void> {
    const { client } = this.#session;
    const run = (spec: TxnSpec): Promise<unknown> => writer.run(spec);
    const forgetting = { client, ids: new Set(kept.keys()), layout: this.#layout, run };
    const forgotten = await forgetDone(forgetting, Math.ceil(client.clock.wall()));
    for (const [id, push] of kept) {
      if (forgotten.has(id)) this.#pending.unshift(push);
      else push.done(true);
    }
  }

  #append(job: NewJob): Append {
    const { delayMs, id, named, priority, record } = job;
    const body = this.#layout.body(id);
    const keyAt = (place: Place): string =>
      delayMs > 0 ? this.#layout.delayed(dueMs(job), place) : this.#layout.waiting(place);
    return {
      at: (number) => ({
        else: named ? [op.get(body, { keysOnly: true })] : [],
        if: named ? [compare.missing(body)] : [],
        then: [op.put(body, job.body), op.put(keyAt({ id, number, priority }), encodeRecord(record))],
      }),
      priority,
      waits: delayMs === 0,
    };
  }

  /** The jobs are pushed, but the answer is lost: looks up which of them were there before, as the store was then. */
  async #findOut(
    batch: readonly PendingPush[],
    revision: bigint,
    kept: Map<string, PendingPush>,
  ): Promise<void> {
    for (const push of batch) {
      const { job, done, failed } = push;
      if (!job.named) {
        done(false);
        continue;
      }
      try {
        if (await this.#wasThere(job, revision)) kept.set(job.id, push);
        else done(false);
      } catch (error) {
        failed(this.#session.alive ? error : unknown(job, 'the session ended before', error));
      }
    }
  }

  /** Whether it was another job that was there at this revision, at which ours was pushed or not. */
  async #wasThere(job: NewJob, revision: bigint): Promise<boolean> {
    const key = this.#layout.body(job.id);
    const { client, signal } = this.#session;
    const read = (at?: bigint): Promise<KeyValue | undefined> =>
      untilAnswered(client.clock, signal, () => client.kv.get(key, { keysOnly: true, revision: at, signal }));
    try {
      return (await read(revision))?.createRevision !== revision;
    } catch (error) {
      if (!hasCode(error, 'COMPACTED')) throw error;
      const now = await read();
      if (now !== undefined && now.createRevision <= revision) return now.createRevision < revision;
      throw unknown(job, 'it is gone, and history was compacted, before', error);
    }
  }
}

function unknown({ id }: NewJob, why: string, cause: unknown): ConclaveError {
  const text = `push: job ${JSON.stringify(id)} was pushed or was there already; ${why} it could be seen which`;
  return new ConclaveError('UNKNOWN_OUTCOME', text, { cause });
}

/** About how many bytes a push of it adds to a transaction. */
function sizeOf({ body, id, record }: NewJob, layout: QueueKeys): number {
  const keys = KEYS_EACH * (Buffer.byteLength(layout.root) + Buffer.byteLength(id) + 50);
  return Buffer.byteLength(body) + Buffer.byteLength(encodeRecord(record)) + keys;
}

function checkSize(job: NewJob, layout: QueueKeys): void {
  const bytes = sizeOf(job, layout);
  if (bytes <= MOST_JOB_BYTES) return;
  throw new RangeError(
    `the data of job ${JSON.stringify(job.id)} is too large: ${String(bytes)} bytes as JSON, with the job's keys; at ` +
      `most ${String(MOST_JOB_BYTES)} fit into a request to etcd; push a reference to it instead`,
  );
}

function dueMs({ record, delayMs }: NewJob): number {
  return Math.ceil(record.pushedAt + delayMs);
}

/** Tells what was done; which were not because the job of their id is kept goes into `kept`. */
function settle(
  batch: readonly PendingPush[],
  responses: readonly OpResult[],
  kept: Map<string, PendingPush>,
): void {
  for (const [at, push] of batch.entries()) {
    const response = responses[at];
    const refused = response?.type === 'txn' && !response.succeeded ? response : undefined;
    const [body] = refused?.responses ?? [];
    // Of a job that is done and kept, the data was put once more.
    if (body?.type === 'get' && (body.kvs[0]?.version ?? 0n) > 1n) kept.set(push.job.id, push);
    else push.done(refused !== undefined);
  }
}
