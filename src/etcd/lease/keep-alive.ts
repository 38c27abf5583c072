/** Keeping one lease alive for a caller: once, or for as long as somebody listens. */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import { AsyncQueue } from '../../util/async-queue.js';
import type { Timer } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import type { CallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import type { LeaseStream } from './lease-stream.js';
import { inJson } from '../../util/shown.js';
import { leaseHex, leaseNotFound, type LeaseTerm } from './lease-term.js';

/** What renewals are made with. */
export interface Renewing {
  readonly connection: Pick<Connection, 'clock' | 'closed' | 'endpoints' | 'timeoutMs' | 'token'>;
  readonly stream: Pick<LeaseStream, 'maintain'>;
}

/** Who hears of renewals until the end. Called synchronously. */
interface Listener {
  renewed(term: LeaseTerm): void;
  /** Nothing follows. */
  ended(reason: unknown): void;
}

/** Errors that do not pass while one waits. */
const HOPELESS = ['AUTH_FAILED', 'PERMISSION_DENIED', 'NOT_ETCD', 'TLS_FAILED'] as const;
/** Renewals kept for a slow reader; it sees the first of them, and then those that come when it has caught up. */
const MOST_WAITING = 16;

/** One renewal. Rejects with `LEASE_NOT_FOUND`, what keeps it from being made, or the signal's reason. */
export async function renewOnce(renewing: Renewing, id: bigint, options: CallOptions): Promise<LeaseTerm> {
  const done = new Deferred<LeaseTerm>();
  const { timeoutMs = renewing.connection.timeoutMs, signal } = options;
  const stop = renew(
    renewing,
    { id, limitMs: () => timeoutMs, signal },
    {
      ended: done.reject,
      renewed: done.resolve,
    },
  );
  try {
    return await done.promise;
  } finally {
    stop();
  }
}

/** Renewals until the reader leaves. It ends with an error when the lease is gone, or may be: nothing ends in silence. */
export function renewOn(
  renewing: Renewing,
  id: bigint,
  signal: AbortSignal | undefined,
): AsyncIterableIterator<LeaseTerm, undefined> {
  const queue = new AsyncQueue<LeaseTerm>(() => stop());
  // The first must come within the time of a call; then each within the lease's life.
  const limitMs = (last: LeaseTerm | undefined): number =>
    last === undefined ? renewing.connection.timeoutMs : last.ttlSeconds * 1000;
  const stop = renew(
    renewing,
    { id, limitMs, signal },
    {
      ended: (reason) => queue.fail(reason),
      renewed: (term) => {
        if (queue.size < MOST_WAITING) queue.push(term);
      },
    },
  );
  return queue;
}

/** Renews a lease until something ends it, or the returned function is called. */
function renew(
  { connection, stream }: Renewing,
  {
    id,
    limitMs,
    signal,
  }: {
    readonly id: bigint;
    /** How long the next renewal may take, counted from when the last one was sent. */
    readonly limitMs: (last: LeaseTerm | undefined) => number;
    readonly signal: AbortSignal | undefined;
  },
  listener: Listener,
): () => void {
  const { clock, closed } = connection;
  const what = `keep lease ${leaseHex(id)} alive`;
  let failure: ConclaveError | undefined;
  let timer: Timer | undefined;
  const stops: (() => void)[] = [];
  const stop = (): void => {
    timer?.cancel();
    for (const each of stops.splice(0)) each();
  };
  const end = (reason: unknown): void => {
    stop();
    listener.ended(reason);
  };
  const expect = (last: LeaseTerm | undefined): void => {
    const limit = limitMs(last);
    timer?.cancel();
    timer = clock.setTimer((last?.sentAt ?? clock.now()) + limit - clock.now(), () => {
      const urls = connection.endpoints.map(({ url }) => url).join(', ');
      const text = `${what}: no answer from ${urls} within ${String(limit)} ms`;
      end(failure ?? new ConclaveError('DEADLINE_EXCEEDED', text));
    });
  };
  expect(undefined);
  stops.push(
    stream.maintain(id, 0, clock.now(), {
      expired: () => end(leaseNotFound(what)),
      failing: (error) => {
        failure = error;
        const mayPass = hasCode(error, 'AUTH_FAILED') && connection.token.mayChange;
        if (hasCode(error, ...HOPELESS) && !mayPass) end(error);
      },
      renewed: (sentAt, ttlSeconds) => {
        failure = undefined;
        const term = inJson({ id, sentAt, ttlSeconds });
        expect(term);
        listener.renewed(term);
      },
    }),
    onAbort(signal, end),
    onAbort(closed, end),
  );
  return stop;
}
