/** Jobs, pushed and done, by workers that fail, are too slow, and are stopped and started; and queues that are paused. */
import { compare, hasCode, type Job, JobQueue, type JobWorker, op } from 'conclave';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import { BODIES, type Claims, DONE, MAX_ATTEMPTS, NAME, noteJobs, Pauses } from '../job-records.js';
import { known, type Part, type Seat, type Workload } from '../workload.js';

/** What a handler needs. */
interface Shift {
  readonly claims: Claims;
  readonly push: (job: Job<number>) => Promise<void>;
}

/** Does a job, or fails, or pushes another one. */
async function handle(seat: Seat, { claims, push }: Shift, job: Job<number>): Promise<void> {
  const { process, random, session, stage } = seat;
  const { attempt, fencingToken: revision, id, signal } = job;
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

function join(seat: Seat, claims: Claims, pauses: Pauses): Part {
  const { process, random, session, stage } = seat;
  const queue = new JobQueue<number>(session, NAME, {
    backoff: { baseMs: 100, maxMs: 1000 },
    maxAttempts: MAX_ATTEMPTS,
  });
  let isClosing = false;
  const push = async (): Promise<void> => {
    const delayMs = random.chance(0.3) ? random.below(1500) : 0;
    await queue.push(random.below(100), { delayMs, id: random.id(8), priority: random.below(2) });
  };
  /** What a handler does while it has its job goes through, whoever closes the queue. */
  const pushInside = async ({ held }: Job<number>): Promise<void> => {
    await push().catch((error: unknown) => {
      if (held && hasCode(error, 'CLOSED') && session.alive) stage.violate('push-refused', String(error));
      known(error);
    });
  };
  const start = (): JobWorker<number> => {
    const shift = { claims, push: pushInside };
    const worker = queue.process((job) => handle(seat, shift, job), { concurrency: 1 + random.below(2) });
    worker.finished.then(
      () => {
        if (!stops.has(worker) && !isClosing && session.alive)
          stage.violate('worker-ended', `a worker of ${process.name} has ended, and nobody asked it to`);
      },
      () => undefined, // The session was lost, or its key.
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
    isClosing = true;
    if (random.chance(0.5)) await stop(worker);
    await queue.close().catch(known);
    await nothingIsOurs(seat);
  };
  return {
    close,
    finish: async () => {
      pauses.asks('resumed');
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
        const done = pauses.asks(isPause ? 'paused' : 'resumed');
        await (isPause ? queue.pause() : queue.resume()).then(done, known);
      }
    },
  };
}

/** Whose workers have stopped has given its jobs back, or does so as long as its session lives. */
async function nothingIsOurs(seat: Seat): Promise<void> {
  const { session, stage } = seat;
  const active = `${NAME}/.queue/todo/active/${session.leaseId.toString(16)}.`;
  const range = keyRange(Buffer.from(active), Buffer.from(`${active.slice(0, -1)}/`));
  const era = stage.eras.length;
  while (session.alive && stage.eras.length === era) {
    if (stage.world.server.member.store.range(range).kvs.length === 0) return;
    await seat.sleep(100);
  }
}

export function jobs(): Workload {
  const claims: Claims = new Map();
  const pauses = new Pauses();
  return {
    begin: (stage) => {
      noteJobs(stage, claims);
      pauses.note(stage);
    },
    join: (seat) => join(seat, claims, pauses),
    /** The jobs that are there, as etcd has them. */
    looked: (stage, keys) => {
      const left = keys.filter((key) => key.startsWith(BODIES)).map((key) => key.slice(BODIES.length));
      stage.note({ atMs: stage.world.nowMs, is: 'jobs', jobs: left, process: 'etcd' });
    },
    lingers: /^q\/\.queue\/control\//,
    name: 'jobs',
    removable: /^q\/\.queue\/control\/worker\//,
    stays: /^done\//,
  };
}
