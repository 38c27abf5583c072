import type { EventInput } from '../../proto/messages.gen.js';
import type { Store } from '../store/store.js';
import { eventBytes } from './watch-response.js';
import type { Watcher } from './watcher.js';

/** As in etcd, a response brings the events of at most this many revisions. */
const BATCH_REVISIONS = 1000;
/** And no further revision once there is this much in it, so that a slow reader does not fill the memory. */
const BATCH_BYTES = 1024 * 1024;

/**
 * Reads the past for a watch that lags behind: the events of its next revisions, none of them split. Moves the watch on.
 * Nothing found means that it has caught up.
 */
export function nextBatch(store: Store, watcher: Watcher): EventInput[] {
  const batch: EventInput[] = [];
  let revisions = 0;
  let bytes = 0;
  let revision = watcher.nextRevision;
  for (; revision <= store.revision && revisions < BATCH_REVISIONS && bytes < BATCH_BYTES; revision++) {
    const events = watcher.events(store, store.changesAt(revision));
    if (events.length === 0) continue;
    revisions++;
    for (const event of events) {
      bytes += eventBytes(event);
      batch.push(event);
    }
  }
  watcher.nextRevision = revision;
  return batch;
}
