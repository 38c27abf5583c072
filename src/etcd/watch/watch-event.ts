import type { Event as WireEvent } from '../../proto/messages.gen.js';
import { KeyValue } from '../kv/key-value.js';

/** One change of one key. */
export interface WatchEvent {
  readonly type: 'put' | 'delete';
  /** The key after a put. After a delete only its key and `modRevision` (that of the deletion) mean anything. */
  readonly kv: KeyValue;
  /** The key before the change; only with `prevKv`, if it existed, and if that revision is not compacted. */
  readonly prevKv: KeyValue | undefined;
}

/** Reads an event off the wire. */
export function readEvent(wire: WireEvent): WatchEvent {
  if (wire.kv === null) throw new TypeError('a watch event without a key');
  return {
    kv: new KeyValue(wire.kv),
    prevKv: wire.prevKv === null ? undefined : new KeyValue(wire.prevKv),
    type: wire.type === 'DELETE' ? 'delete' : 'put',
  };
}
