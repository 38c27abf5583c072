import type { EventInput, WatchCreateRequest } from '../../proto/messages.gen.js';
import type { KeyVersion } from '../store/key-history.js';
import { inRange, type KeyRange } from '../store/key-range.js';
import type { Store } from '../store/store.js';

/** What a watch is created from. */
export interface WatcherOptions {
  readonly id: bigint;
  readonly range: KeyRange;
  readonly nextRevision: bigint;
  readonly request: WatchCreateRequest;
}

/** One watch of a stream: what it wants to see and how far it has seen. */
export class Watcher {
  readonly id: bigint;
  readonly range: KeyRange;
  readonly fragment: boolean;
  readonly progressNotify: boolean;
  readonly #prevKv: boolean;
  readonly #puts: boolean;
  readonly #deletes: boolean;
  /** The first revision that has not been handed over. */
  nextRevision: bigint;
  /** Whether events were sent since the last progress report, so that the next one can be left out. */
  heard = false;
  /** Whether compaction ended it: then only its id is still taken. */
  compacted = false;

  constructor({ id, range, nextRevision, request }: WatcherOptions) {
    this.id = id;
    this.range = range;
    this.nextRevision = nextRevision;
    this.fragment = request.fragment;
    this.progressNotify = request.progressNotify;
    this.#prevKv = request.prevKv;
    this.#puts = !request.filters.includes('NOPUT');
    this.#deletes = !request.filters.includes('NODELETE');
  }

  /** The events this watch is to see of one revision's writes. */
  events(store: Store, changes: readonly KeyVersion[]): EventInput[] {
    const events: EventInput[] = [];
    for (const change of changes) if (this.#wants(change)) events.push(this.#event(store, change));
    return events;
  }

  #wants(change: KeyVersion): boolean {
    return (change.deleted ? this.#deletes : this.#puts) && inRange(this.range, change.text);
  }

  #event(store: Store, change: KeyVersion): EventInput {
    const { key, modRevision, text } = change;
    const made = change.createRevision === modRevision;
    const prevKv = this.#prevKv && !made ? store.before(text, modRevision) : undefined;
    return change.deleted
      ? { type: 'DELETE', kv: { key, modRevision }, prevKv }
      : { type: 'PUT', kv: change, prevKv };
  }
}
