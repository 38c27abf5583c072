import type { KeyVersion } from '../store/key-history.js';
import type { Store } from '../store/store.js';
import { WatchIndex } from './watch-index.js';
import type { Watcher } from './watcher.js';

/** The stream of a watch: takes those writes of one revision that are in the watch's range. */
export interface WatchSink {
  take(watcher: Watcher, revision: bigint, changes: readonly KeyVersion[]): void;
}

/** A watch and the stream it belongs to. */
interface Entry {
  readonly watcher: Watcher;
  readonly sink: WatchSink;
}

/** Brings every commit to the watches of its keys, and costs nothing to watches of other keys. */
export class WatchHub {
  readonly #index = new WatchIndex<Entry>();
  readonly #entries = new Map<Watcher, Entry>();

  constructor(store: Store) {
    store.onCommit((revision, changes) => this.#publish(revision, changes));
  }

  add(watcher: Watcher, sink: WatchSink): void {
    const entry = { watcher, sink };
    this.#entries.set(watcher, entry);
    this.#index.add(watcher.range, entry);
  }

  delete(watcher: Watcher): void {
    const entry = this.#entries.get(watcher);
    if (entry === undefined) return;
    this.#entries.delete(watcher);
    this.#index.delete(watcher.range, entry);
  }

  #publish(revision: bigint, changes: readonly KeyVersion[]): void {
    if (this.#entries.size === 0) return;
    // All that a revision did to a watch's keys goes to the watch at once.
    const touched = new Map<Entry, KeyVersion[]>();
    for (const change of changes) {
      for (const entry of this.#index.at(change.text)) {
        const seen = touched.get(entry);
        if (seen === undefined) touched.set(entry, [change]);
        else seen.push(change);
      }
    }
    for (const [{ watcher, sink }, seen] of touched) sink.take(watcher, revision, seen);
  }
}
