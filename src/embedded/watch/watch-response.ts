import type { EventInput, KeyValueInput, WatchResponseInput } from '../../proto/messages.gen.js';

/** etcd fragments a response that would not fit a request: 1.5 MiB and half a MiB for gRPC's own. */
const FRAGMENT_BYTES = 2 * 1024 * 1024;
/** What an event takes beside its keys and values, at most. */
const EVENT_OVERHEAD_BYTES = 120;

/** About how many bytes `event` takes on the wire. */
export function eventBytes({ kv, prevKv }: EventInput): number {
  return kvBytes(kv) + kvBytes(prevKv) + EVENT_OVERHEAD_BYTES;
}

function kvBytes(kv: KeyValueInput | null | undefined): number {
  return (kv?.key?.length ?? 0) + (kv?.value?.length ?? 0);
}

/** `response` cut into parts that fit; every part but the last says that there is more. */
export function fragments(response: WatchResponseInput): WatchResponseInput[] {
  const parts: EventInput[][] = [];
  let bytes = Infinity;
  for (const event of response.events ?? []) {
    const size = eventBytes(event);
    bytes += size;
    if (bytes >= FRAGMENT_BYTES) {
      parts.push([]);
      bytes = size;
    }
    parts.at(-1)?.push(event);
  }
  return parts.map((events, at) => ({ ...response, events, fragment: at < parts.length - 1 }));
}
