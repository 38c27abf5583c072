/** What the supervisor and its workers tell each other, over Node's IPC channel with structured clones. */
import type { Target } from '../connect.js';

/** From the supervisor. */
export type Order =
  | {
      readonly type: 'start';
      readonly name: string;
      readonly run: string;
      readonly target: Target;
      readonly ttlSeconds: number;
    }
  /** Give the leadership up and stand again. */
  | { readonly type: 'resign' }
  /** Give the leadership up and stand no more; go on with the jobs. */
  | { readonly type: 'rest' }
  /** Give everything up and exit. */
  | { readonly type: 'stop' };

/** From a worker. Times are milliseconds of the machine's monotonic clock, which all processes share. */
export type Report =
  /** It has a session, and stands in the election with it. */
  | { readonly type: 'stands'; readonly leaseId: bigint }
  /** It was told that it leads. */
  | { readonly type: 'leads'; readonly token: bigint; readonly at: number }
  /** etcd said that the record is written; just before it was sent, at `heldAt`, the worker saw that it still led. */
  | {
      readonly type: 'wrote';
      readonly number: number;
      readonly token: bigint;
      readonly revision: bigint;
      readonly heldAt: number;
    }
  /** etcd said that the job is in the queue. */
  | { readonly type: 'pushed'; readonly id: string }
  /** Its term is over. */
  | { readonly type: 'ended'; readonly token: bigint; readonly why: 'resigned' | 'lost' }
  /**
   * After it had lost its term it tried to write all the same: whether etcd took that, and the revision of etcd's answer.
   * It may take it if the term was given up early, by the worker's own deadline, and nobody else leads yet.
   */
  | { readonly type: 'late'; readonly token: bigint; readonly accepted: boolean; readonly revision: bigint }
  /** It was told to rest: it leads no more, and whatever it pushed has been reported. */
  | { readonly type: 'rests' }
  /** Something went wrong that it tries again. */
  | { readonly type: 'trouble'; readonly message: string };
