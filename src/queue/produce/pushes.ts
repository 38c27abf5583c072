/** What one queue object pushes on one session, through one fenced writer, which is made with the first push. */
import { hasCode } from '../../errors/conclave-error.js';
import type { Session } from '../../session/session.js';
import { forgetClientId, newClientId } from '../store/client-id.js';
import { FencedWriter } from '../store/fenced-writer.js';
import type { QueueKeys } from '../store/keys.js';
import { type NewJob, Producer, type PushResult } from './producer.js';

export class Pushes {
  readonly #session: Session;
  readonly #keys: QueueKeys;
  readonly #producer: Producer;
  #writer: Promise<FencedWriter> | undefined;
  /** Whose writer that is. */
  #id = '';

  constructor(session: Session, keys: QueueKeys) {
    this.#session = session;
    this.#keys = keys;
    this.#producer = new Producer(session, keys, () => this.#open());
  }

  /** As `Producer.push`. */
  async push(jobs: readonly NewJob[]): Promise<PushResult[]> {
    try {
      return await this.#producer.push(jobs);
    } catch (error) {
      // Somebody has removed our writer's key: the next push makes another.
      if (hasCode(error, 'NOT_HELD')) this.#writer = undefined;
      throw error;
    }
  }

  /** Nothing may be pushed any more; resolves when what was is, and nothing of the writer is left. */
  async close(): Promise<void> {
    await this.#producer.idle();
    if (!this.#session.alive) return;
    await (await this.#writer)?.close();
    forgetClientId(this.#session, this.#id);
  }

  #open(): Promise<FencedWriter> {
    if (this.#writer !== undefined) return this.#writer;
    forgetClientId(this.#session, this.#id); // Of a writer that could not be made, or whose key is gone.
    this.#id = newClientId(this.#session);
    this.#writer = FencedWriter.open(this.#session, this.#keys.lane(this.#id, 'push')).catch(
      (error: unknown) => {
        this.#writer = undefined;
        throw error;
      },
    );
    return this.#writer;
  }
}
