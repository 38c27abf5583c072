import type { WatchResponse } from '../../proto/messages.gen.js';

/**
 * What a member that was behind tells its watchers when it has caught up: the events of several revisions in one message,
 * whose header has the newest.
 */
export function joinBatches(messages: readonly WatchResponse[]): WatchResponse[] {
  const joined: WatchResponse[] = [];
  for (const next of messages) {
    const hasOnlyEvents = next.events.length > 0 && !next.created && !next.canceled && !next.fragment;
    // Not past what says something else: that a watch is there, has ended, or has told all there was.
    const control = joined.findLastIndex(({ events }) => events.length === 0);
    const before = joined.slice(control + 1).find(({ watchId }) => watchId === next.watchId);
    if (hasOnlyEvents && before !== undefined && !before.fragment) {
      before.events.push(...next.events);
      before.header = next.header;
    } else joined.push(next);
  }
  return joined;
}
