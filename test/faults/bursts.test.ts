// Many calls at once (src/etcd/transport/in-flight.ts): they are sent as etcd answers, and what is not sent is known not to be.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hasCode, Mutex } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { RPC, Scene } from './scene.js';

/** How many of the results are rejections with this code. */
function countOf(results: readonly PromiseSettledResult<unknown>[], code: string): number {
  return results.filter(
    (each) => each.status === 'rejected' && hasCode(each.reason) && each.reason.code === code,
  ).length;
}

onEachBackend('bursts', (backend) => {
  test('10,000 puts, and as many gets, at once: all succeed, and a session lives through it', async (t) => {
    const scene = new Scene(t, backend);
    const session = await scene.session(scene.direct, { ttlSeconds: 10 });
    const { kv } = scene.direct;
    const all = Array.from({ length: 10_000 }, (_, at) => at);
    await Promise.all(all.map((at) => kv.put(`x/${at % 1000}`, String(at))));
    const found = await Promise.all(all.map((at) => kv.get(`x/${at % 1000}`)));
    assert.ok(found.every((each) => each !== undefined));
    assert.equal(session.state, 'active');
    await kv.delete({ prefix: 'x/' });
  });

  test('1,000 locks at once: all succeed', async (t) => {
    const scene = new Scene(t, backend);
    const session = await scene.session(scene.direct, { ttlSeconds: 30 });
    const use = async (name: string): Promise<void> => {
      await using lock = await new Mutex(session, name).lock();
      assert.ok(lock.held);
    };
    await Promise.all(Array.from({ length: 1000 }, (_, at) => use(`x/${at}`)));
    await Promise.all(Array.from({ length: 1000 }, () => use('x/one')));
    assert.equal(session.state, 'active');
  });

  test('what could not be sent before its caller’s limit was over, or he gave up, is not sent', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const { kv } = scene.client(proxy);
    await kv.get('x');
    const held = proxy.onCall(RPC.put, 'holdRequest');
    const sent = Array.from({ length: 256 }, (_, at) => kv.put(`x/${at}`, ''));
    const stop = new AbortController();
    const late = assert.rejects(kv.put('x/late', '', { timeoutMs: 100 }), (error) =>
      hasCode(error, 'DEADLINE_EXCEEDED'),
    );
    const givenUp = assert.rejects(kv.put('x/given-up', '', { signal: stop.signal }), /enough/);
    await late;
    stop.abort(new Error('enough'));
    await givenUp;
    held.release();
    await Promise.all(sent);
    assert.equal((await scene.keys('x/')).length, 256);
    await scene.direct.kv.delete({ prefix: 'x/' });
  });

  test('when nobody answers, those that wait are told so with the first, and that they were not sent', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const { kv } = scene.client(proxy, { timeoutMs: 1000 });
    await kv.get('x');
    const held = proxy.onCall(RPC.put, 'holdRequest');
    const results = await Promise.allSettled(Array.from({ length: 3000 }, (_, at) => kv.put(`x/${at}`, '')));
    const unknown = countOf(results, 'UNKNOWN_OUTCOME');
    assert.equal(unknown + countOf(results, 'UNAVAILABLE'), 3000);
    // Some of those that wait are let in as the time of the first runs out.
    assert.ok(unknown <= 1000, `${unknown} were sent`);
    assert.equal(held.hits, unknown);
  });

  test('a client that is closed ends those that wait', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const client = scene.client(proxy);
    await client.kv.get('x');
    const held = proxy.onCall(RPC.put, 'holdRequest');
    const puts = Promise.allSettled(Array.from({ length: 1000 }, (_, at) => client.kv.put(`x/${at}`, '')));
    await held.hit();
    await client.close();
    assert.equal(countOf(await puts, 'CLOSED'), 1000);
  });
});
