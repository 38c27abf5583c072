/** The watches of a namespace: on the stream of the client it is of, with the prefix put before keys and taken off again. */
import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import type { WatchRequest, WatchSink } from '../watch/streamed-watch.js';
import type { Subscription, Watches } from '../watch/watch-stream.js';
import type { KeyPrefix } from './key-prefix.js';

export class NamespaceWatches implements Watches {
  readonly #outer: Watches;
  readonly #prefix: KeyPrefix;
  readonly #closed: AbortSignal;

  /** `closed`: aborts when either client is closed. */
  constructor(outer: Watches, prefix: KeyPrefix, closed: AbortSignal) {
    this.#outer = outer;
    this.#prefix = prefix;
    this.#closed = closed;
  }

  subscribe(request: WatchRequest, sink: WatchSink): Subscription {
    this.#closed.throwIfAborted();
    const create = this.#prefix.keyed(request.create);
    const inner = this.#outer.subscribe(
      { ...request, create },
      {
        created: (revision) => sink.created(revision),
        events: (events, revision) => sink.events(this.#prefix.events(events), revision),
        failed: (error) => {
          stopListening();
          sink.failed(error);
        },
        progress: (revision) => sink.progress(revision),
      },
    );
    const stopListening = onAbort(this.#closed, () => {
      inner.cancel();
      sink.failed(new ConclaveError('CLOSED', `watch ${request.what}: its client is closed`));
    });
    return {
      cancel: () => {
        stopListening();
        inner.cancel();
      },
      get epoch() {
        return inner.epoch;
      },
      get nextRevision() {
        return inner.nextRevision;
      },
    };
  }
}
