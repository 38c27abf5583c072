import type { ConclaveError } from '../errors/conclave-error.js';
import type { Event as WireEvent, WatchCreateRequestInput, WatchResponse } from '../proto/messages.gen.js';
import { readEvent, type WatchEvent } from './watch-event.js';

/** Where the events of one watch go. Called synchronously, in order; must not throw. */
export interface WatchSink {
  /** The watch exists on the server. Called once, however often the stream is opened anew. `revision`: the store's then. */
  created(revision: bigint): void;
  /** Changes, all of each revision at once. `revision` is the store's when the server sent them, not the events'. */
  events(events: readonly WatchEvent[], revision: bigint): void;
  /** Nothing is pending up to `revision`. */
  progress(revision: bigint): void;
  /** The watch is over: compacted, refused, or the client closed. Nothing follows. */
  failed(error: ConclaveError): void;
}

/** What to watch. `startRevision` 0n means from now. */
export interface WatchRequest {
  readonly create: Omit<WatchCreateRequestInput, 'startRevision' | 'watchId'>;
  readonly startRevision: bigint;
  /** The key or range, for error messages. */
  readonly what: string;
}

/**
 * One watch of a stream: where it goes on when it is created anew on another one.
 *
 * A batch's header carries the store's revision, which may be ahead of events that are still to come, so only the events'
 * own revisions (and a progress report of the watch itself) move that point.
 */
export class StreamedWatch {
  readonly request: WatchRequest;
  readonly sink: WatchSink;
  /** Its id on the present stream; undefined until the server has created it there. */
  id: bigint | undefined;
  /** Whether the sink has been told that it exists, or it ended before. */
  announced = false;
  over = false;
  /** Whether the server refused it on a token that may have run out. */
  refused = false;
  #nextRevision: bigint;
  /** Events of a revision whose last fragment has not come. */
  #fragments: WireEvent[] = [];

  constructor(request: WatchRequest, sink: WatchSink) {
    this.request = request;
    this.sink = sink;
    this.#nextRevision = request.startRevision;
  }

  /** The next revision that could be delivered; 0n: the server has not created it yet, and it begins then. */
  get nextRevision(): bigint {
    return this.#nextRevision;
  }

  /** The request that creates it on a stream. What had come in part will come again. */
  creation(): WatchCreateRequestInput {
    this.id = undefined;
    this.#fragments = [];
    return { ...this.request.create, startRevision: this.#nextRevision };
  }

  /** It exists on the stream. Returns the store's revision then. */
  created({ header, watchId }: WatchResponse): bigint {
    this.id = watchId;
    this.refused = false;
    const revision = header?.revision ?? 0n;
    // A watch from now begins after the revision its creation reports.
    if (this.#nextRevision === 0n) this.#nextRevision = revision + 1n;
    return revision;
  }

  /** Hands on what is new: all events of a revision at once. */
  deliver(response: WatchResponse): void {
    const revision = response.header?.revision ?? 0n;
    if (response.fragment) {
      this.#fragments.push(...response.events);
      return;
    }
    const wire = this.#fragments.length > 0 ? [...this.#fragments, ...response.events] : response.events;
    this.#fragments = [];
    if (wire.length === 0) {
      if (revision >= this.#nextRevision) this.#nextRevision = revision + 1n;
      this.sink.progress(revision);
      return;
    }
    const from = this.#nextRevision;
    const events = wire.map(readEvent).filter((event) => event.kv.modRevision >= from);
    const last = events.at(-1);
    if (last === undefined) return;
    this.#nextRevision = last.kv.modRevision + 1n;
    this.sink.events(events, revision);
  }
}
