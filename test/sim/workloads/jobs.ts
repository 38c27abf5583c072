/** Jobs: what etcd has of them, as records, and a worker that does them, or fails, or is too slow. */
import { type Job, JobQueue, op } from 'conclave';

import type { Stage } from '../stage.js';
import { known, type Part, type Seat, type Workload } from '../workload.js';

const NAME = 'q';
const BODIES = `${NAME}/.queue/body/`;
const DONE = 'done/';
const MAX_ATTEMPTS = 3;

/** The claims that are worked at, each with its session's lease in hex. */
type Claims = Map<number, { readonly job: string; readonly lease: string; readonly process: string }>;

/** Writes down what becomes of jobs, by what is written in etcd. */
function noteJobs(stage: Stage, claims: Claims): void {
  stage.world.server.onCommit((revision, changes) => {
    const { nowMs: atMs } = stage.world;
    for (const { createRevision, deleted, text, value } of changes) {
      const job = text.slice(text.lastIndexOf('/') + 1);
      const about = { atMs, job, process: 'etcd' } as const;
      // Its worker cannot know yet; its writes are refused from now on.
      if (deleted && stage.isRevoking && text.startsWith(`${NAME}/.queue/control/worker/`)) {
        for (const [claim, { job: its, lease, process }] of claims)
          if (text.includes(`/${lease}.`)) stage.note({ atMs, claim, is: 'claimEnds', job: its, process });
      }
      if (deleted) continue;
      if (text.startsWith(BODIES) && createRevision === revision)
        stage.note({ ...about, is: 'pushed', maxAttempts: MAX_ATTEMPTS, revision });
      if (text.startsWith(`${NAME}/.queue/dead/`)) stage.note({ ...about, is: 'buried' });
      if (text.startsWith(DONE)) {
        const [claim, process] = JSON.parse(value.toString()) as [number, string];
        stage.note({ atMs, claim, is: 'committed', job, process, revision });
      }
    }
  });
}

/** Does a job, or fails. */
async function handle(seat: Seat, claims: Claims, job: Job<number>): Promise<void> {
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
  if (!stage.isStopping && random.chance(0.2)) {
    signal.removeEventListener('abort', ended);
    ended();
    throw new Error('as planned');
  }
  const value = JSON.stringify([claim, process.name]);
  await job.commit({ then: [op.put(`${DONE}${id}`, value)] }).catch(known);
}

function join(seat: Seat, claims: Claims): Part {
  const { random, session, stage } = seat;
  const queue = new JobQueue<number>(session, NAME, {
    backoff: { baseMs: 100, maxMs: 1000 },
    maxAttempts: MAX_ATTEMPTS,
  });
  const worker = queue.process((job) => handle(seat, claims, job), { concurrency: 1 + random.below(2) });
  worker.finished.catch(() => undefined); // The session was lost.
  const close = async (): Promise<void> => {
    await worker.stop({ timeoutMs: 1000 }).catch(() => undefined);
    await queue.close().catch(known);
  };
  return {
    close,
    finish: async () => {
      await queue.idle();
      await queue.removeDead();
      await close();
    },
    step: async () => {
      await seat.sleep(random.between(0, 600));
      stage.operations += 1;
      const delayMs = random.chance(0.3) ? random.below(1500) : 0;
      await queue
        .push(random.below(100), { delayMs, id: random.id(8), priority: random.below(2) })
        .catch(known);
    },
  };
}

export function jobs(): Workload {
  const claims: Claims = new Map();
  return {
    begin: (stage) => noteJobs(stage, claims),
    join: (seat) => join(seat, claims),
    /** The jobs that are there, as etcd has them. */
    looked: (stage, keys) => {
      const left = keys.filter((key) => key.startsWith(BODIES)).map((key) => key.slice(BODIES.length));
      stage.note({ atMs: stage.world.nowMs, is: 'jobs', jobs: left, process: 'etcd' });
    },
    lingers: /^q\/\.queue\/control\//,
    name: 'jobs',
    stays: /^done\//,
  };
}
