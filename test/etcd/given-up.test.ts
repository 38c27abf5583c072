// grpc-js keeps account of the messages that it might have to send again; a call that is cancelled before it has passed its
// message on stays in there for ever (1.14.7, MessageBufferTracker).
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { Client, Mutex, Session } from 'conclave';
import { startEtcd } from 'conclave/testing';

import { until } from '../support/until.js';

interface Tracker {
  readonly allocatedPerCall: ReadonlyMap<number, number>;
  allocate: (this: Tracker, size: number, callId: number) => boolean;
}

const { MessageBufferTracker } = createRequire(import.meta.url)(
  '@grpc/grpc-js/build/src/retrying-call.js',
) as { readonly MessageBufferTracker: { readonly prototype: Tracker } };

test('calls that are given up as soon as they are made leave nothing in gRPC', async () => {
  const trackers = new Set<Tracker>();
  const { prototype } = MessageBufferTracker;
  const { allocate } = prototype;
  prototype.allocate = function (size, callId) {
    trackers.add(this);
    return allocate.call(this, size, callId);
  };
  try {
    await using etcd = await startEtcd();
    await using client = new Client({ endpoints: etcd.endpoints });
    await using session = await Session.open(client);
    const held = await new Mutex(session, 'held').lock();
    const calls: ((signal: AbortSignal) => Promise<unknown>)[] = [
      (signal) => client.kv.get('given-up', { signal }),
      (signal) => client.kv.put('given-up', '', { signal }),
      (signal) => client.kv.range({ prefix: 'given-up' }, { signal }),
      (signal) => client.kv.txn({ then: [] }, { signal }),
      (signal) => client.lease.timeToLive(session.leaseId, { signal }),
      (signal) => new Mutex(session, 'given-up').lock({ signal }),
      (signal) => new Mutex(session, 'held').lock({ signal }),
    ];
    const used = (): number => [...trackers].reduce((sum, each) => sum + each.allocatedPerCall.size, 0);
    const before = used();
    for (const call of calls) {
      for (let turns = 0; turns < 20; turns++) {
        const stop = new AbortController();
        const given = call(stop.signal);
        for (let turn = 0; turn < turns; turn++) await Promise.resolve();
        stop.abort();
        await given.catch(() => undefined);
      }
    }
    assert.ok(trackers.size > 0);
    // The streams of the session and of the line are there still.
    await until(() => used() <= before + 2, { what: 'no call is left but streams' });
    await held.unlock();
  } finally {
    prototype.allocate = allocate;
  }
});
