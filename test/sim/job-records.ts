/** What becomes of jobs, and whether the queue is paused, by what is written in etcd. */
import { Asked } from './asked.js';
import type { Stage } from './stage.js';

/** The queue. */
export const NAME = 'q';
const QUEUE = `${NAME}/.queue/`;
const BODIES = `${QUEUE}body/`;
const WORKERS = `${QUEUE}control/worker/`;
/** Where commits of jobs write. */
export const DONE = 'done/';
export const MAX_ATTEMPTS = 3;

/** A job's name in the history: one id may be that of several, whose data tell them apart. */
export function nameOf(id: string, data: unknown): string {
  return `${id}#${String(data)}`;
}

export class JobRecords {
  /** The claims that are worked at, each with its session's lease in hex. */
  readonly claims = new Map<
    number,
    { readonly job: string; readonly lease: string; readonly process: string }
  >();
  /** Calls of `pause` and `resume`. */
  readonly asked = new Asked();
  /** By id, and the revision at which it was pushed. */
  readonly #names = new Map<string, string>();

  /** Writes down what becomes of them. */
  note(stage: Stage): void {
    let paused: 'paused' | 'resumed' = 'resumed';
    stage.world.server.onCommit((revision, changes) => {
      const { nowMs: atMs } = stage.world;
      for (const { createRevision, deleted, text, value } of changes) {
        const id = text.slice(text.lastIndexOf('/') + 1);
        const about = { atMs, process: 'etcd' } as const;
        if (deleted && stage.isRevoking) this.#removed(stage, text);
        if (text === `${QUEUE}control/paused`) {
          const is = deleted || value.toString() === 'running' ? 'resumed' : 'paused';
          if (is === paused) continue;
          paused = is;
          stage.note({ ...about, is, revision });
          this.asked.done(stage, `the queue is ${is}`, revision);
        }
        if (deleted) continue;
        if (text.startsWith(BODIES) && createRevision === revision) {
          const job = nameOf(id, value.toString());
          this.#names.set(`${id}@${revision}`, job);
          stage.note({ ...about, is: 'pushed', job, maxAttempts: MAX_ATTEMPTS, revision });
        }
        if (text.startsWith(`${QUEUE}dead/`)) {
          const { bornAt } = JSON.parse(value.toString()) as { bornAt: number };
          stage.note({ ...about, is: 'buried', job: this.#names.get(`${id}@${bornAt}`) ?? id });
        }
        if (text.startsWith(DONE)) {
          const [claim, process] = JSON.parse(value.toString()) as [number, string];
          stage.note({ atMs, claim, is: 'committed', job: id, process, revision });
        }
      }
    });
  }

  /** Writes down which jobs are there: when all is over, those that are done and kept. */
  looked(stage: Stage): void {
    const { kvs } = stage.below(BODIES);
    const jobs = kvs.map(({ text, value }) => nameOf(text.slice(BODIES.length), value.toString()));
    stage.note({ atMs: stage.world.nowMs, is: 'jobs', jobs, process: 'etcd' });
    // Numbers are counted on as long as a job has one.
    const kept = stage.below(`${QUEUE}done/`).kvs.map(({ text }) => text.slice(text.lastIndexOf('/') + 1));
    const bodies = kvs.filter(({ text }) => !kept.includes(text.slice(BODIES.length)));
    const left = [...bodies, ...(kept.length > 0 ? [] : stage.below(`${QUEUE}control/`).kvs)];
    if (left.length > 0)
      stage.violate('nothing-left', `nobody's keys are left: ${left.map(({ text }) => text).join(', ')}`);
  }

  /** A key was removed by hand. */
  #removed(stage: Stage, key: string): void {
    const { nowMs: atMs } = stage.world;
    // Its worker cannot know yet; its writes are refused from now on.
    if (key.startsWith(WORKERS)) {
      for (const [claim, { job, lease, process }] of this.claims)
        if (key.includes(`/${lease}.`)) stage.note({ atMs, claim, is: 'claimEnds', job, process });
    }
    if (!key.startsWith(BODIES)) return;
    const id = key.slice(BODIES.length);
    const [, last] = [...this.#names].findLast(([each]) => each.startsWith(`${id}@`)) ?? [];
    if (last !== undefined) stage.note({ atMs, is: 'buried', job: last, process: 'etcd' });
  }
}
