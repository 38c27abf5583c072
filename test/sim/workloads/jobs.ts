/** Jobs, pushed and done, by workers that fail, are too slow, and are stopped and started; and queues that are paused. */
import { compare, hasCode, type Job, JobQueue, type JobWorker, op } from 'conclave';

import { DONE, JobRecords, MAX_ATTEMPTS, NAME, nameOf } from '../job-records.js';
import { known, type Part, type Seat, type Workload } from '../workload.js';

const QUEUE = `${NAME}/.queue/`;

/** What a handler needs. */
interface Shift {
  readonly claims: JobRecords['claims'];
  readonly push: (job: Job<number>) => Promise<void>;
}

/** Does a job, or fails, or pushes another one. */
async function handle(seat: Seat, { claims, push }: Shift, job: Job<number>): Promise<void> {
  const { process, random, session, stage } = seat;
  const { attempt, data, fencingToken: revision, signal } = job;
  const id = nameOf(job.id, data);
  // It is claimed, and handed in, or given up.
  stage.operations += 2;
  const claim = stage.next('claim');
  const about = { claim, job: id };
  seat.note({ ...about, attempt, is: 'claimed', revision });
  claims.set(claim, { job: id, lease: session.leaseId.toString(16), process: process.name });
  const ended = (): void => {
    claims.delete(claim);
    seat.note({ ...about, is: 'claimEnds' });
  };
  signal.addEventListener('abort', ended, { once: true });
  await seat.sleep(random.between(0, stage.isStopping ? 20 : 500));
  const mood = stage.isStopping ? 1 : random.between(0, 1);
  if (mood < 0.1) await push(job);
  const then = [op.put(`${DONE}${id}`, JSON.stringify([claim, process.name]))];
  // It is not done, and its next attempt may begin before we hear of it.
  if (mood > 0.2 && mood < 0.4) {
    signal.removeEventListener('abort', ended);
    ended();
    if (mood < 0.3) throw new Error('as planned');
    if (job.held) await job.commit({ if: [compare.version('none', '>', 0n)], then });
    return;
  }
  await job.commit({ then });
}

function join(seat: Seat, { asked, claims }: JobRecords): Part {
  const { process, random, session, stage } = seat;
  const queue = new JobQueue<number>(session, NAME, {
    backoff: { baseMs: 100, maxMs: 1000 },
    maxAttempts: MAX_ATTEMPTS,
  });
  let isClosing = false;
  let isOver = false;
  /** It could not begin, or not go on: what an earlier life has left on the lease may stay. */
  let hasFailed = false;
  const push = async (): Promise<void> => {
    const delayMs = random.chance(0.3) ? random.below(1500) : 0;
    // Some ids come again: as long as a job of one is there, nothing is pushed.
    const id = random.chance(0.3) ? `again-${random.below(4)}` : random.id(8);
    const keepDoneMs = random.pick([0, 0, 200, 2000]);
    await queue.push(stage.next('job'), { delayMs, id, keepDoneMs, priority: random.below(2) });
  };
  /** What a handler does while it has its job goes through, whoever closes the queue. */
  const pushInside = async ({ held }: Job<number>): Promise<void> => {
    await push().catch((error: unknown) => {
      if (held && hasCode(error, 'CLOSED') && session.alive) stage.violate('push-refused', String(error));
      known(error);
    });
  };
  const start = (): JobWorker<number> => {
    isOver = hasFailed = false;
    const shift = { claims, push: pushInside };
    const worker = queue.process((job) => handle(seat, shift, job), { concurrency: 1 + random.below(2) });
    worker.finished.then(
      () => {
        if (!stops.has(worker) && !isClosing && session.alive)
          stage.violate('worker-ended', `a worker of ${process.name} has ended, and nobody asked it to`);
      },
      () => undefined, // The session was lost, or its key.
    );
    worker.finished.then(
      () => (isOver = true),
      () => (isOver = hasFailed = true),
    );
    return worker;
  };
  const stops = new Set<JobWorker<number>>();
  const stop = (worker: JobWorker<number>): Promise<void> => {
    stops.add(worker);
    return worker.stop({ timeoutMs: random.pick([0, 100, 1000]) });
  };
  let worker = start();
  const close = async (): Promise<void> => {
    if (!isClosing) await takesJobs(seat, worker, () => isOver || stops.has(worker));
    isClosing = true;
    if (random.chance(0.5)) await stop(worker);
    await queue.close().catch(known);
    if (!(hasFailed && seat.isResumed)) await nothingIsOurs(seat);
  };
  return {
    close,
    finish: async () => {
      asked.begins('the queue is resumed');
      await queue.resume();
      await push();
      await queue.idle();
      await queue.removeDead();
      await close();
    },
    step: async () => {
      await seat.sleep(random.between(0, 600));
      stage.operations += 1;
      const what = random.between(0, 1);
      if (what < 0.8) await push().catch(known);
      else if (what < 0.9) {
        const stopping = stop(worker);
        if (random.chance(0.7)) await Promise.race([stopping, seat.sleep(random.below(300))]);
        if (!isClosing && session.alive) worker = start();
        await stopping;
      } else {
        const isPause = what < 0.93;
        const done = asked.begins(isPause ? 'the queue is paused' : 'the queue is resumed');
        await (isPause ? queue.pause() : queue.resume()).then(done, known);
      }
    },
  };
}

/**
 * Whose workers have stopped has given its jobs back, or does so as long as its session lives, or some other worker does: a
 * refusal may outlast the one that stops.
 */
async function nothingIsOurs(seat: Seat): Promise<void> {
  const { session, stage } = seat;
  const active = `${QUEUE}todo/active/${session.leaseId.toString(16)}.`;
  // What a restore has brought back is nobody's until the lease ends; and nobody need hear of one.
  const isThere = (prefix: string): boolean => stage.below(prefix).kvs.length > 0;
  while (session.alive && stage.eras.length === 1 && isThere(active) && isThere(`${QUEUE}control/worker/`))
    await seat.sleep(100);
}

/** A worker that has nothing to do takes what waits, or has ended and said so. */
async function takesJobs(seat: Seat, worker: JobWorker<number>, hasEnded: () => boolean): Promise<void> {
  const { session, stage } = seat;
  const isPaused = (): boolean => {
    const [paused] = stage.below(`${QUEUE}control/paused`).kvs;
    return paused !== undefined && paused.value.toString() !== 'running';
  };
  while (session.alive && !hasEnded() && worker.running === 0 && !isPaused()) {
    if (stage.eras.length > 1 || stage.below(`${QUEUE}todo/waiting/`).kvs.length === 0) return;
    await seat.sleep(50);
  }
}

export function jobs(): Workload {
  const records = new JobRecords();
  return {
    begin: (stage) => records.note(stage),
    join: (seat) => join(seat, records),
    looked: (stage) => records.looked(stage),
    name: 'jobs',
    removable: /^q\/\.queue\/(control\/worker|body)\//,
    // Who is done and kept stays until somebody looks again, in a minute.
    stays: /^(done|q\/\.queue\/(done|body|control))\//,
  };
}
