/**
 * Answers a range in parts, as etcd 3.7's RangeStream: all at one revision, which is looked up anew for each part, so that
 * other calls come in between. Header, count and `more` come with the last one; all together are what Range answers.
 */
import { type ServerWritableStream, status } from '@grpc/grpc-js';

import type { RangeRequest, RangeResponseInput, RangeStreamResponseInput } from '../../proto/messages.gen.js';
import { Deferred } from '../../util/deferred.js';
import type { Headers } from '../rpc/headers.js';
import { RpcError } from '../rpc/rpc-error.js';
import { statusOf } from '../rpc/rpc-server.js';
import type { Store } from '../store/store.js';
import { readRange } from './range-read.js';
import { checkRange } from './request-check.js';

const FIRST_KEYS = 10;
/** What a part is to come near to. */
const PART_BYTES = 1.5 * 1024 * 1024;

type Call = ServerWritableStream<RangeRequest, RangeStreamResponseInput>;

/** Sends all parts; ends the call with etcd's error if it cannot. It waits while the client does not take them. */
export async function streamRange(call: Call, store: Store, headers: Headers): Promise<void> {
  try {
    const { request } = call;
    checkRange(request);
    checkOrder(request);
    for (const part of partsOf(request, store, headers)) {
      const flows = call.write({ rangeResponse: part });
      if (!flows) await drained(call);
      if (call.cancelled || call.destroyed) return;
    }
    call.end();
  } catch (error) {
    call.emit('error', statusOf(error));
  }
}

/** The order of keys is what a stream comes in. */
function checkOrder({ sortOrder, sortTarget, ...request }: RangeRequest): void {
  if (sortOrder !== 'NONE' && (sortTarget !== 'KEY' || sortOrder !== 'ASCEND'))
    throw new RpcError(status.UNIMPLEMENTED, 'RangeStream does not support custom sort orders');
  const { maxCreateRevision, maxModRevision, minCreateRevision, minModRevision } = request;
  if ((maxCreateRevision | maxModRevision | minCreateRevision | minModRevision) !== 0n)
    throw new RpcError(status.UNIMPLEMENTED, 'RangeStream does not support revision filters');
}

function* partsOf(
  request: RangeRequest,
  store: Store,
  headers: Headers,
): Generator<RangeResponseInput, void, undefined> {
  const pinned = request.revision > 0n ? request.revision : store.revision;
  const wanted = request.limit > 0n ? Number(request.limit) : Infinity;
  let { key } = request;
  let sent = 0;
  let size = FIRST_KEYS;
  for (;;) {
    const limit = BigInt(Math.min(size, wanted - sent));
    const found = readRange(store, store, { ...request, key, limit, revision: pinned });
    const { count = 0n, kvs = [], more = false } = found;
    const lastKey = kvs.at(-1)?.key;
    if (!more || lastKey === undefined || sent + kvs.length >= wanted) {
      // Its count is of what was left, with this part.
      yield headers.fill({ ...found, count: count + BigInt(sent) });
      return;
    }
    yield { kvs };
    sent += kvs.length;
    key = Buffer.concat([lastKey, Buffer.of(0)]);
    const bytes = kvs.reduce((sum, kv) => sum + (kv.key?.length ?? 0) + (kv.value?.length ?? 0), 1);
    if (bytes < PART_BYTES / 2) size *= 2;
    else if (bytes > PART_BYTES * 2) size = Math.max(1, Math.floor(size / 2));
  }
}

/** Until the client has taken what was sent, or is gone. */
async function drained(call: Call): Promise<void> {
  const over = new Deferred<void>();
  const end = (): void => over.resolve();
  const events = ['drain', 'close', 'cancelled'] as const;
  for (const event of events) call.on(event, end);
  await over.promise;
  for (const event of events) call.off(event, end);
}
