/**
 * One watch of a stream: where it is on the present stream, and where it goes on when it is created anew on another one.
 *
 * A batch's header carries the store's revision, which may be ahead of events that are still to come, so only the events'
 * own revisions (and a progress report of the watch itself) move that point.
 */
import type { ConclaveError } from '../../errors/conclave-error.js';
import type { Event as WireEvent, WatchCreateRequestInput, WatchResponse } from '../../proto/messages.gen.js';
import type { NewWatch } from '../kv/write-gate.js';
import { tell } from '../../util/channels.js';
import { readEvent, type WatchEvent } from './watch-event.js';

/** Where the events of one watch go. Called synchronously, in order; must not throw. */
export interface WatchSink {
  /**
   * The watch exists on the server. Called once, however often the stream is opened anew. `revision`: the store's then;
   * of a watch from now on, the one after which it delivers.
   */
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
  readonly create: Omit<WatchCreateRequestInput, 'startRevision' | 'watchId'> & { readonly key: Uint8Array };
  readonly startRevision: bigint;
  /** The key or range, for error messages. */
  readonly what: string;
  /** The key, or the first of its range, as its owner knows it: for `error.key` and channels. */
  readonly key: string;
  /**
   * For a watch from now on whose owner reads once it is created: what this client writes before that need not wait for
   * it. @default false
   */
  readonly readAfterwards?: boolean | undefined;
  /** It goes on where an earlier watch ended, in the history of this epoch. */
  readonly continues?: number | undefined;
}

/** Where a watch is on the present stream. */
type Place =
  /** Not asked for there. */
  | { readonly at: 'none' }
  /** Asked for, from `start`; the server has not answered. */
  | { readonly at: 'creating'; readonly start: bigint }
  | { readonly at: 'server'; readonly id: bigint }
  /** It has ended, for whatever reason. */
  | { readonly at: 'end' };

export class StreamedWatch implements NewWatch {
  readonly request: WatchRequest;
  readonly sink: WatchSink;
  /** Lets those go on who wait for it to exist. */
  settle: () => void = () => undefined;
  /** How often in a row a server refused it. */
  refusals = 0;
  #place: Place = { at: 'none' };
  #announced = false;
  #nextRevision: bigint;
  /** Since when it has been on no stream, by the client's clock. */
  #lostAt: number | undefined;
  /** Events of a revision whose last fragment has not come. */
  #fragments: WireEvent[] = [];

  constructor(request: WatchRequest, sink: WatchSink) {
    this.request = request;
    this.sink = sink;
    this.#nextRevision = request.startRevision;
  }

  get key(): Uint8Array {
    return this.request.create.key;
  }

  /** The next revision that could be delivered; 0n: the server has not created it yet, and it begins then. */
  get nextRevision(): bigint {
    return this.#nextRevision;
  }

  /** Whether it goes on where it, or an earlier one, has been before. */
  get goesOn(): boolean {
    return this.#announced || this.request.continues !== undefined;
  }

  get over(): boolean {
    return this.#place.at === 'end';
  }

  /** Its id on the present stream; undefined until the server has created it there. */
  get id(): bigint | undefined {
    return this.#place.at === 'server' ? this.#place.id : undefined;
  }

  beginAfter(revision: bigint): void {
    if (this.#nextRevision === 0n) this.#nextRevision = revision + 1n;
  }

  /** The request that creates it on a stream. What had come in part will come again. */
  creation(): WatchCreateRequestInput {
    this.#place = { at: 'creating', start: this.#nextRevision };
    this.#fragments = [];
    return { ...this.request.create, startRevision: this.#nextRevision };
  }

  /** The server says, at `now`, that it exists on the stream. False: it begins after what it must not miss, and must be created anew. */
  created({ header, watchId }: WatchResponse, now: number): boolean {
    const revision = header?.revision ?? 0n;
    const fromNow = this.#place.at === 'creating' && this.#place.start === 0n;
    if (fromNow) {
      // A watch from now begins after the revision its creation reports; a write may have overtaken that.
      if (this.#nextRevision > 0n && revision >= this.#nextRevision) return false;
      this.#nextRevision = revision + 1n;
    }
    this.#place = { at: 'server', id: watchId };
    this.refusals = 0;
    if (this.#announced) {
      const { key } = this.request;
      const lagMs = now - (this.#lostAt ?? now);
      this.#lostAt = undefined;
      tell('watch', () => ({ event: 'resumed', key, lagMs, revision: this.#nextRevision }));
      return true;
    }
    this.#announced = true;
    this.settle();
    this.sink.created(this.request.startRevision === 0n ? this.#nextRevision - 1n : revision);
    return true;
  }

  /** The stream is gone, or the server refused it there, at `now`. */
  lost(now: number): void {
    this.#lostAt ??= now;
    if (!this.over) this.#place = { at: 'none' };
  }

  end(): void {
    this.#place = { at: 'end' };
    this.settle();
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
