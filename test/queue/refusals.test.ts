// Pushes that etcd refuses after an answer was lost: found out by what is stored, or said not to be known.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode } from 'conclave';

import { onBackends } from '../support/backends.js';
import { TXN, withProxy } from './scene.js';

const NO_SPACE = { code: 8, message: 'etcdserver: mvcc: database space exceeded' };
const DENIED = { code: 7, message: 'etcdserver: permission denied' };

onBackends(['etcd'], 'JobQueue.push when etcd refuses what is sent again', (backend) => {
  test('a push whose answer was lost is found to be done, although etcd refuses everything from then on', async () => {
    for (const status of [NO_SPACE, DENIED]) {
      await withProxy(backend, 'refused', async ({ proxy, queue, straight }) => {
        await queue.push(0);
        proxy.swallowNextReply({ method: TXN, then: 'reset' });
        const refusing = proxy.onCall(TXN, 'fail', { status, times: 1_000_000 });
        const pushed = await queue.push(1);
        assert.equal(pushed.deduplicated, false);
        refusing.release();
        for (const data of [0, 1]) {
          const job = await straight.dequeue({ timeoutMs: 5000 });
          assert.equal(job.data, data);
          await job.ack();
        }
      });
    }
  });

  test('one that never arrived, or may yet, is of unknown outcome; what is pushed after it is pushed once', async () => {
    await withProxy(backend, 'unknown', async ({ proxy, queue, straight }) => {
      await queue.push(0);
      proxy.onCall(TXN, 'dropRequest', { then: 'reset' });
      const refusing = proxy.onCall(TXN, 'fail', { status: DENIED, times: 1_000_000 });
      await assert.rejects(queue.push(1), (error) => hasCode(error, 'UNKNOWN_OUTCOME'));
      refusing.release();
      await queue.push(2);
      const seen: number[] = [];
      await using worker = straight.process((job) => void seen.push(job.data));
      await straight.idle({ timeoutMs: 10_000 });
      await worker.stop();
      assert.deepEqual(seen, [0, 2]);
    });
  });

  test('one that arrives after it was given up is done once, and those after it too', async () => {
    await withProxy(backend, 'arrives', async ({ proxy, queue, straight }) => {
      await queue.push(0);
      // The seed's only delay is of 7 s or more: the push is given up after 5.
      const late = proxy.lateCopies({ kind: 'first', seed: 37, withinMs: 8000 });
      const where = (): boolean => late.taken > 0;
      const refusing = proxy.onCall(TXN, 'fail', { status: DENIED, times: 1_000_000, where });
      await assert.rejects(queue.push(1), (error) => hasCode(error, 'UNKNOWN_OUTCOME'));
      assert.equal(late.taken, 1);
      late.stop();
      refusing.release();
      await late.settled();
      assert.equal((await straight.counts()).waiting, 2);
      for (const data of [2, 3]) await queue.push(data);
      const seen: number[] = [];
      await using worker = straight.process((job) => void seen.push(job.data));
      await straight.idle({ timeoutMs: 10_000 });
      await worker.stop();
      assert.deepEqual(seen, [0, 1, 2, 3]);
    });
  });
});
