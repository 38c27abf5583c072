/** Jobs in the simulation: what etcd has of them, as records, and a worker that does them, or fails, or is too slow. */
import { ConclaveError, type Job, JobQueue, op, type Session } from 'conclave';
import type { HistoryRecord, SimProcess, World } from 'conclave/testing';

const NAME = 'q';
const DONE = 'done/';
const MAX_ATTEMPTS = 3;

/** What jobs need of the play. */
export interface JobsStage {
  readonly world: World;
  note(record: HistoryRecord): void;
  /** A number that no other claim has. */
  nextClaim(): number;
  /** Whether what is written now is written by somebody's hand. */
  readonly revoking: boolean;
  /** The claims that are worked at, each with its session's lease in hex. */
  readonly claims: Map<number, { readonly job: string; readonly lease: string; readonly process: string }>;
}

/** Writes down what becomes of jobs, by what is written in etcd. */
export function observeJobs(stage: JobsStage): void {
  const { world } = stage;
  world.server.member.store.onCommit((revision, changes) => {
    const { nowMs: atMs } = world;
    for (const { createRevision, deleted, text, value } of changes) {
      const job = text.slice(text.lastIndexOf('/') + 1);
      const about = { atMs, job, process: 'etcd' } as const;
      // Its worker cannot know yet; its writes are refused from now on.
      if (deleted && stage.revoking && text.startsWith(`${NAME}/.queue/control/worker/`)) {
        for (const [claim, { job: its, lease, process }] of stage.claims)
          if (text.includes(`/${lease}.`)) stage.note({ atMs, claim, is: 'claimEnds', job: its, process });
      }
      if (deleted) continue;
      if (text.startsWith(`${NAME}/.queue/body/`) && createRevision === revision)
        stage.note({ ...about, is: 'pushed', maxAttempts: MAX_ATTEMPTS, revision });
      if (text.startsWith(`${NAME}/.queue/dead/`)) stage.note({ ...about, is: 'buried' });
      if (text.startsWith(DONE)) {
        const [claim, process] = JSON.parse(value.toString()) as [number, string];
        stage.note({ atMs, claim, is: 'committed', job, process, revision });
      }
    }
  });
}

/** The jobs that are there, as etcd has them. */
export function noteJobs(stage: JobsStage, keys: readonly string[]): void {
  const prefix = `${NAME}/.queue/body/`;
  const jobs = keys.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  stage.note({ atMs: stage.world.nowMs, is: 'jobs', jobs, process: 'etcd' });
}

/** A worker of a process, and its queue. */
export class JobsActor {
  readonly #stage: JobsStage;
  readonly #process: SimProcess;
  readonly #random: World['random'];
  readonly #session: Session;
  readonly #queue: JobQueue<number>;
  readonly #stop: () => Promise<void>;

  constructor(stage: JobsStage, process: SimProcess, random: World['random'], session: Session) {
    this.#stage = stage;
    this.#process = process;
    this.#random = random;
    this.#session = session;
    this.#queue = new JobQueue<number>(session, NAME, {
      backoff: { baseMs: 100, maxMs: 1000 },
      maxAttempts: MAX_ATTEMPTS,
    });
    const worker = this.#queue.process((job) => this.#handle(job), { concurrency: 1 + random.below(2) });
    worker.finished.catch(() => undefined); // The session was lost.
    this.#stop = () => worker.stop({ timeoutMs: 1000 }).catch(() => undefined);
  }

  async push(): Promise<void> {
    const delayMs = this.#random.chance(0.3) ? this.#random.below(1500) : 0;
    await this.#queue
      .push(this.#random.below(100), { delayMs, id: this.#random.id(8), priority: this.#random.below(2) })
      .catch(known);
  }

  async close(): Promise<void> {
    await this.#stop();
    await this.#queue.close().catch(known);
  }

  /** Does what is left, and removes what is dead. */
  async finish(): Promise<void> {
    await this.#queue.idle();
    await this.#queue.removeDead();
    await this.close();
  }

  async #handle(job: Job<number>): Promise<void> {
    const claim = this.#stage.nextClaim();
    const { attempt, fencingToken: revision, id } = job;
    const about = { claim, job: id, process: this.#process.name };
    const note = (record: Pick<HistoryRecord, 'is'> & Record<string, unknown>): void =>
      this.#stage.note({ atMs: this.#stage.world.nowMs, ...about, ...record } as unknown as HistoryRecord);
    note({ attempt, is: 'claimed', revision });
    const lease = this.#session.leaseId.toString(16);
    this.#stage.claims.set(claim, { job: id, lease, process: this.#process.name });
    const ended = (): void => {
      this.#stage.claims.delete(claim);
      note({ is: 'claimEnds' });
    };
    job.signal.addEventListener('abort', ended, { once: true });
    await new Promise<void>((resolve) => {
      this.#process.clock.setTimer(this.#random.between(0, 600), resolve);
    });
    if (this.#random.chance(0.2)) {
      job.signal.removeEventListener('abort', ended);
      ended();
      throw new Error('as planned');
    }
    const value = JSON.stringify([claim, this.#process.name]);
    await job.commit({ then: [op.put(`${DONE}${id}`, value)] }).catch(known);
  }
}

function known(error: unknown): undefined {
  if (error instanceof ConclaveError) return undefined;
  throw error;
}
