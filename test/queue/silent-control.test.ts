// Clients that leave while the watch on the queue's control keys is silent: what they made must not keep them.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { withProxy } from './scene.js';

const WATCH = '/etcdserverpb.Watch/Watch';

onEachBackend('A queue whose control watch is silent', (backend) => {
  for (const how of ['stop', 'close', 'dequeue'] as const) {
    test(`a client that joins, hears nothing and leaves by ${how} is gone at once, and what it registered too`, async () => {
      await withProxy(backend, 'silent', async ({ direct, proxy, queue, straight }) => {
        const registered = async (): Promise<number> =>
          (await direct.kv.range({ prefix: 'silent/.queue/control/worker/' })).kvs.length;
        const silence = proxy.onCall(WATCH, 'holdReply');
        if (how === 'dequeue') {
          const giveUp = new AbortController();
          const dequeued = assert.rejects(queue.dequeue({ signal: giveUp.signal }), { name: 'AbortError' });
          await until(async () => (await registered()) === 1);
          giveUp.abort();
          await dequeued;
          await queue.close();
        } else {
          const worker = queue.process(() => assert.fail('it has no job'));
          await until(async () => (await registered()) === 1);
          await (how === 'stop' ? worker.stop() : queue.close());
          await worker.finished;
        }
        // The answer that it waited for has not come, nor has it waited for that to be given up.
        assert.ok(silence.hits > 0);
        assert.equal(await registered(), 0);
        silence.release();
        await straight.push(1);
        await (await straight.dequeue({ timeoutMs: 5000 })).ack();
      });
    });
  }
});
