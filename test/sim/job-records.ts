/** What becomes of jobs, and whether the queue is paused, by what is written in etcd. */
import type { Stage } from './stage.js';

/** The queue. */
export const NAME = 'q';
export const BODIES = `${NAME}/.queue/body/`;
/** Where commits of jobs write. */
export const DONE = 'done/';
export const MAX_ATTEMPTS = 3;

/** The claims that are worked at, each with its session's lease in hex. */
export type Claims = Map<number, { readonly job: string; readonly lease: string; readonly process: string }>;

/** Writes down what becomes of jobs. */
export function noteJobs(stage: Stage, claims: Claims): void {
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

/** What is asked for by calls of `pause` and `resume` that may still do something. */
export class Pauses {
  readonly #open = { paused: 0, resumed: 0 };

  /** It is asked for from now on, until what is returned is called: the call is over, and certainly does nothing more. */
  asks(what: 'paused' | 'resumed'): () => void {
    this.#open[what] += 1;
    return () => (this.#open[what] -= 1);
  }

  /** Writes down each change, which somebody must be asking for. */
  note(stage: Stage): void {
    let last = 'resumed';
    stage.world.server.onCommit((revision, changes) => {
      const change = changes.find(({ text }) => text === `${NAME}/.queue/control/paused`);
      if (change === undefined) return;
      const is = change.deleted || change.value.toString() === 'running' ? 'resumed' : 'paused';
      if (is === last) return;
      last = is;
      stage.note({ atMs: stage.world.nowMs, is, process: 'etcd', revision });
      if (this.#open[is] === 0 && stage.eras.length === 1)
        stage.violate('pause-came-back', `the queue is ${is} at ${revision}, and nobody asks for it`);
    });
  }
}
