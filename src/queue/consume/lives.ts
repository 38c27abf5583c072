/**
 * The lives of a worker, of a consumer and of a claimed job: for each, one state, and a table that says what an event makes
 * of it. An event that a state's row does not name leaves the state as it is.
 */

/** For each state, what each event makes of it. */
export type Table<S extends { readonly is: string }, E extends { readonly what: string }> = {
  readonly [K in S['is']]: {
    readonly [W in E['what']]?: (
      state: Extract<S, { readonly is: K }>,
      event: Extract<E, { readonly what: W }>,
    ) => S;
  };
};

/** The state that follows; the same object if the event changes nothing. */
export function following<S extends { readonly is: string }, E extends { readonly what: string }>(
  table: Table<S, E>,
  state: S,
  event: E,
): S {
  const row: Readonly<Record<string, ((state: never, event: never) => S) | undefined>> =
    table[state.is as S['is']];
  return row[event.what]?.(state as never, event as never) ?? state;
}

/** Why a worker ends: it was told to, or it cannot go on. */
export type WorkerEnd = { readonly by: 'request' } | { readonly by: 'failure'; readonly error: unknown };

export type WorkerState =
  /** It takes jobs. */
  | { readonly is: 'working' }
  /** It takes no more; its handlers may end, for `timeoutMs` at most. */
  | { readonly is: 'draining'; readonly end: WorkerEnd; readonly timeoutMs: number }
  /** The jobs that are still its own are taken back from their handlers. */
  | { readonly is: 'leaving'; readonly end: WorkerEnd }
  | { readonly is: 'stopped'; readonly end: WorkerEnd };

export type WorkerEvent =
  | { readonly what: 'stop'; readonly timeoutMs: number }
  /** No job can be had any more. */
  | { readonly what: 'failed'; readonly error: unknown; readonly timeoutMs: number }
  /** No slot is at work, and every job is settled. */
  | { readonly what: 'drained' }
  /** The handlers have had their time. */
  | { readonly what: 'late' }
  /** Everything is given back, or has taken too long. */
  | { readonly what: 'left' };

export const WORKER_LIFE: Table<WorkerState, WorkerEvent> = {
  working: {
    stop: (_, { timeoutMs }) => ({ end: { by: 'request' }, is: 'draining', timeoutMs }),
    failed: (_, { error, timeoutMs }) => ({ end: { by: 'failure', error }, is: 'draining', timeoutMs }),
  },
  draining: {
    drained: ({ end }) => ({ end, is: 'leaving' }),
    late: ({ end }) => ({ end, is: 'leaving' }),
  },
  leaving: { left: ({ end }) => ({ end, is: 'stopped' }) },
  stopped: {},
};

export type ConsumerState =
  /** It registers, and reads what it must know. */
  | { readonly is: 'joining' }
  | { readonly is: 'open' }
  /** Open, and nobody uses it: it stays for a while, since joining costs a few requests. */
  | { readonly is: 'idle' }
  /** No job can be had of it any more, though it did not want to end; its users have yet to go. */
  | { readonly is: 'over'; readonly reason: unknown }
  /** Nobody uses it; whoever wants a job opens another. */
  | { readonly is: 'leaving' }
  | { readonly is: 'gone' };

export type ConsumerEvent =
  | { readonly what: 'opened' }
  | { readonly what: 'failed'; readonly reason: unknown }
  | { readonly what: 'used' }
  /** The last user has gone, and the last job is settled. */
  | { readonly what: 'unused' }
  /** It has been idle for long enough, or must not be. */
  | { readonly what: 'dismissed' }
  | { readonly what: 'left' };

const leave = (): ConsumerState => ({ is: 'leaving' });

export const CONSUMER_LIFE: Table<ConsumerState, ConsumerEvent> = {
  joining: {
    opened: () => ({ is: 'open' }),
    failed: (_, { reason }) => ({ is: 'over', reason }),
    dismissed: leave,
  },
  open: {
    failed: (_, { reason }) => ({ is: 'over', reason }),
    unused: () => ({ is: 'idle' }),
  },
  idle: {
    failed: leave,
    used: () => ({ is: 'open' }),
    dismissed: leave,
  },
  over: { unused: leave },
  leaving: { left: () => ({ is: 'gone' }) },
  gone: {},
};

export type SettleKind = 'ack' | 'nack' | 'release' | 'commit';

/** One way in which a job was settled, and what comes of it. */
export interface Settling {
  readonly kind: SettleKind;
  readonly done: Promise<unknown>;
}

/** A job that is ours, and free to be settled. */
type Settleable =
  /** With its handler, or with who dequeued it. `declined`: its last commit was, so returning is no success. */
  | { readonly is: 'held'; readonly declined: boolean }
  /** Wanted back: nothing but its release is accepted. */
  | { readonly is: 'recalled' };

export type JobLife =
  | Settleable
  /** On its way. `otherwise`: what it is again when that is refused. */
  | { readonly is: 'settling'; readonly settling: Settling; readonly otherwise: Settleable }
  | { readonly is: 'settled'; readonly settling: Settling }
  /** It was seen not to be ours; `settling`: by what, if so. */
  | { readonly is: 'lost'; readonly settling?: Settling };

export type JobLifeEvent =
  | { readonly what: 'settle'; readonly settling: Settling }
  | { readonly what: 'settled' }
  /** The commit's own conditions did not hold. */
  | { readonly what: 'declined' }
  /** etcd has refused it: the job is ours as before. */
  | { readonly what: 'refused' }
  | { readonly what: 'recall' }
  | { readonly what: 'lost' };

export const JOB_LIFE: Table<JobLife, JobLifeEvent> = {
  held: {
    settle: (held, { settling }) => ({ is: 'settling', otherwise: held, settling }),
    recall: () => ({ is: 'recalled' }),
    lost: () => ({ is: 'lost' }),
  },
  recalled: {
    settle: (recalled, { settling }) =>
      settling.kind === 'release' ? { is: 'settling', otherwise: recalled, settling } : recalled,
    lost: () => ({ is: 'lost' }),
  },
  settling: {
    settled: ({ settling }) => ({ is: 'settled', settling }),
    declined: ({ otherwise }) => (otherwise.is === 'held' ? { declined: true, is: 'held' } : otherwise),
    refused: ({ otherwise }) => otherwise,
    recall: (state) => ({ ...state, otherwise: { is: 'recalled' } }),
    lost: ({ settling }) => ({ is: 'lost', settling }),
  },
  settled: {},
  lost: {},
};
