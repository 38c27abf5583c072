/** What a process of the job queue's model does: a queue for each session, claimed jobs by number. */
import { type Client, type Job, JobQueue, op, type PushItem, type Session } from 'conclave';

import { until } from '../../support/until.js';
import type { Operations } from '../fleet.js';
import { type Outcome, outcomeOf } from '../window.js';
import { Numbered } from './numbered.js';
import { Sessions, sessionOperations } from './sessions.js';

/** How long to wait for a job. */
export type Patience = { readonly timeoutMs: number } | { readonly abortAfterMs: number };

/** A job that was claimed. */
export interface Claimed {
  readonly job: number;
  readonly id: string;
  readonly attempt: number;
  readonly token: bigint;
}

/** The ways to hand a job in. */
export const WAYS = ['ack', 'commit', 'nack', 'nack now', 'bury', 'release'] as const;
export type Way = (typeof WAYS)[number];

const QUEUE = { backoff: { baseMs: 5, maxMs: 20 } } as const;

/** The commands. */
export function operations(client: Client): Operations {
  const sessions = new Sessions(client);
  const queues = new Map<Session, JobQueue<string>>();
  const jobs = new Numbered<Job<string>>('job');

  async function queueOf(session: string, name: string): Promise<JobQueue<string>> {
    const by = await sessions.of(session);
    const queue = queues.get(by) ?? new JobQueue<string>(by, name, QUEUE);
    queues.set(by, queue);
    return queue;
  }

  async function handIn(job: Job<string>, way: Way, effect: string): Promise<void> {
    switch (way) {
      case 'ack':
        return job.ack();
      case 'commit':
        await job.commit({ then: [op.put(effect, String(job.fencingToken))] });
        return;
      case 'nack':
        return job.nack('failed');
      case 'nack now':
        return job.nack('failed', { delayMs: 0 });
      case 'bury':
        return job.nack('failed for good', { final: true });
      case 'release':
        return job.release();
    }
  }

  return {
    ...sessionOperations(sessions),

    /** Resolves with whether each job was there already. */
    async push(
      session: string,
      name: string,
      items: readonly PushItem<string>[],
    ): Promise<Outcome<readonly boolean[]>> {
      const queue = await queueOf(session, name);
      return outcomeOf(client, async () =>
        (await queue.pushMany(items)).map(({ deduplicated }) => deduplicated),
      );
    },

    async take(session: string, name: string, patience: Patience): Promise<Outcome<Claimed>> {
      const queue = await queueOf(session, name);
      const limits =
        'timeoutMs' in patience ? patience : { signal: AbortSignal.timeout(patience.abortAfterMs) };
      return outcomeOf(client, async () => {
        const job = await queue.dequeue(limits);
        return { attempt: job.attempt, id: job.id, job: jobs.add(job), token: job.fencingToken };
      });
    },

    /** Hands a job in; a commit writes `effect` with the same transaction. */
    handIn(number: number, way: Way, effect: string): Promise<Outcome<void>> {
      return outcomeOf(client, () => handIn(jobs.get(number), way, effect));
    },

    async pause(session: string, name: string): Promise<void> {
      await (await queueOf(session, name)).pause();
    },

    async resume(session: string, name: string): Promise<void> {
      await (await queueOf(session, name)).resume();
    },

    /** Leaves the queues: what is claimed goes back. */
    async leave(): Promise<void> {
      for (const [session, queue] of queues) if (session.alive) await queue.close();
      queues.clear();
    },

    /** Does all that is left to be done, one job after the other, removes what is dead, and is the last to leave. */
    async finish(session: string, name: string): Promise<void> {
      const queue = await queueOf(session, name);
      await queue.resume();
      const worker = queue.process(() => undefined);
      await queue.idle({ timeoutMs: 15_000 });
      await worker.stop();
      await queue.removeDead();
      // Whoever was killed is there until its lease has run out.
      const { leaseId } = await sessions.of(session);
      const workers = { prefix: `${name}/.queue/control/worker/` };
      await until(async () => (await client.kv.range(workers)).kvs.every((kv) => kv.leaseId === leaseId));
      await queue.close();
    },
  };
}
