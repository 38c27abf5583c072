/** The use of one consumer after another: a worker whose session renews itself goes on with the next session. */
import { hasCode } from '../../errors/conclave-error.js';
import type { Session } from '../../session/session.js';
import { type Sessions, untilKnown } from '../../session/sessions.js';
import { onAbort } from '../../util/abort.js';
import type { ConsumerUse } from './consumers.js';
import type { Job } from './job.js';

export class RenewedUse<T> implements ConsumerUse<T> {
  readonly #sessions: Sessions;
  readonly #useOn: (session: Session) => ConsumerUse<T>;
  readonly #ended = new AbortController();
  #now: { readonly session: Session; readonly use: ConsumerUse<T>; readonly stop: () => void } | undefined;
  #isOver = false;

  /** `useOn` starts a use of a session's consumer. */
  constructor(sessions: Sessions, useOn: (session: Session) => ConsumerUse<T>) {
    this.#sessions = sessions;
    this.#useOn = useOn;
  }

  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  async take(signal: AbortSignal): Promise<Job<T>> {
    for (;;) {
      const session = await this.#sessions.alive(signal);
      this.#ended.signal.throwIfAborted();
      try {
        return await this.#useOf(session).take(signal);
      } catch (error) {
        if (signal.aborted || !(await this.#isLost(session, error))) throw error;
      }
    }
  }

  async end(options?: { readonly linger: boolean }): Promise<void> {
    this.#isOver = true;
    this.#now?.stop();
    await this.#now?.use.end(options);
  }

  /** Whether it ended with its session. Our key among the workers goes with the lease, and that may be heard first. */
  async #isLost(session: Session, error: unknown): Promise<boolean> {
    if (hasCode(error, 'NOT_HELD', 'TICKET_LOST', 'LEASE_NOT_FOUND'))
      await untilKnown(session, this.#sessions.closed);
    return session.state === 'lost';
  }

  #useOf(session: Session): ConsumerUse<T> {
    if (this.#now?.session === session) return this.#now.use;
    this.#now?.stop();
    void this.#now?.use.end();
    const use = this.#useOn(session);
    const stop = onAbort(use.ended, (reason) => {
      void this.#isLost(session, reason).then((isLost) => {
        if (!isLost) this.#ended.abort(reason);
      });
    });
    this.#now = { session, stop, use };
    if (this.#isOver) void use.end();
    return use;
  }
}
