/** The entry of a worker process. It takes jobs, stands in the election, and writes records and pushes jobs while it leads. */
import { hasCode } from '../../errors/conclave-error.js';
import { Client } from '../../etcd/client.js';
import { Election } from '../../election/election.js';
import type { Leadership } from '../../election/leadership.js';
import { op } from '../../etcd/kv/op.js';
import type { Job } from '../../queue/consume/job.js';
import { JobQueue } from '../../queue/job-queue.js';
import { Session } from '../../session/session.js';
import { onAbort, orAborted, sleep } from '../../util/abort.js';
import { machineMs } from '../command/guardian.js';
import { DemoKeys } from './keys.js';
import type { Order, Report } from './protocol.js';
import { RecordBook } from './record-book.js';

/** Between two records of a leader. */
const RECORD_EVERY_MS = 50;
/** Before it tries again what went wrong. */
const PAUSE_MS = 200;

/** How many jobs a worker does at a time. */
const JOBS_AT_ONCE = 2;

const stop = new AbortController();
/** Aborts when it shall stand no more. */
const rest = new AbortController();
let resignOrdered = new AbortController();

function stopped(): boolean {
  return stop.signal.aborted;
}

function report(message: Report): void {
  if (process.connected) process.send?.(message);
}

/** What a job is about: the record that was written with it. */
interface RecordJob {
  readonly number: number;
}

/** A signal that aborts with the first of these. */
function either(signals: readonly AbortSignal[]): AbortSignal & Disposable {
  const controller = new AbortController();
  const stops = signals.map((signal) => onAbort(signal, (reason) => controller.abort(reason)));
  return Object.assign(controller.signal, {
    [Symbol.dispose]: () => {
      for (const each of stops) each();
    },
  });
}

/** Stands, leads and stands again until told to stop. */
async function work(order: Extract<Order, { type: 'start' }>): Promise<void> {
  const { name, target, ttlSeconds } = order;
  const keys = new DemoKeys(order.run);
  await using client = new Client(target);
  while (!stopped()) {
    try {
      await using session = await Session.open(client, { label: name, signal: stop.signal, ttlSeconds });
      report({ leaseId: session.leaseId, type: 'stands' });
      await using queue = new JobQueue<RecordJob>(session, keys.jobs);
      await using worker = queue.process((job) => done(job, keys, name), { concurrency: JOBS_AT_ONCE });
      // A lost session is no news here: the next one is opened below, with a worker of its own.
      worker.finished.catch(() => undefined);
      const election = new Election(session, keys.election);
      while (session.alive && !rest.signal.aborted) {
        const leadership = await election.campaign(name, { signal: rest.signal }).catch(unlessResting);
        if (leadership === undefined) break;
        await using term = leadership;
        await lead(term, { client, keys, name, queue });
      }
      if (rest.signal.aborted) report({ type: 'rests' });
      using over = either([session.signal, stop.signal]);
      await untilAborted(over);
    } catch (error) {
      if (stopped()) return;
      // A fault of ours ends this worker, which the verdict counts.
      if (!hasCode(error)) throw error;
      const { message } = error;
      if (!hasCode(error, 'SESSION_LOST', 'TICKET_LOST', 'NOT_HELD')) {
        report({ message, type: 'trouble' });
      }
      await sleep(client.clock, PAUSE_MS, stop.signal).catch(() => undefined);
    }
  }
}

/** Being told to rest is no reason to begin anew. */
function unlessResting(error: unknown): undefined {
  if (!rest.signal.aborted) throw error;
}

/** The job's effect and its acknowledgement: one transaction. */
async function done(job: Job<RecordJob>, keys: DemoKeys, name: string): Promise<void> {
  await job.commit({ then: [op.put(keys.effect(job.id, job.fencingToken), name)] });
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  await orAborted(new Promise<never>(() => undefined), signal).catch(() => undefined);
}

/** Pushes the job that goes with a record. What is not confirmed is not reported. */
async function push(queue: JobQueue<RecordJob>, number: number): Promise<void> {
  try {
    const { id } = await queue.push({ number }, { id: `job-${number}` });
    report({ id, type: 'pushed' });
  } catch (error) {
    if (!hasCode(error)) throw error;
  }
}

interface Tools {
  readonly client: Client;
  readonly keys: DemoKeys;
  readonly name: string;
  readonly queue: JobQueue<RecordJob>;
}

/** One term, from being told that it leads to its end. */
async function lead(leadership: Leadership, { client, keys, name, queue }: Tools): Promise<void> {
  const token = leadership.fencingToken;
  report({ at: machineMs(), token, type: 'leads' });
  resignOrdered = new AbortController();
  const book = await RecordBook.open(client, keys, leadership, name);
  using over = either([leadership.signal, resignOrdered.signal, rest.signal]);
  try {
    for (;;) {
      // Before the look: a freeze in between must not make it later than what it tells.
      const heldAt = machineMs();
      if (!leadership.held || over.aborted) break;
      const written = await book.append();
      if (written !== undefined) {
        report({ ...written, heldAt, token, type: 'wrote' });
        await push(queue, written.number);
      }
      await sleep(client.clock, RECORD_EVERY_MS, over).catch(() => undefined);
    }
  } catch (error) {
    if (!hasCode(error, 'NOT_HELD')) throw error;
  }
  if (leadership.held) {
    await leadership.resign();
    report({ token, type: 'ended', why: 'resigned' });
    return;
  }
  report({ token, type: 'ended', why: 'lost' });
  report({ ...(await book.writeLate()), token, type: 'late' });
}

process.on('message', (order: Order) => {
  if (order.type === 'resign') resignOrdered.abort(new Error('told to resign'));
  else if (order.type === 'rest') rest.abort(new Error('told to rest'));
  else if (order.type === 'stop') {
    rest.abort(new Error('told to stop'));
    stop.abort(new Error('told to stop'));
  } else void work(order).finally(() => process.disconnect());
});
// The supervisor decides when to end: Ctrl-C in the terminal reaches it too. If it is gone, so are we.
process.on('SIGINT', () => undefined);
process.on('disconnect', () => process.exit());
