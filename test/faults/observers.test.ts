// Observers of an election that fall behind: slow readers, and watches that are cut.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Election, op } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { until } from '../support/until.js';
import { Scene } from './scene.js';

/** More than an observer keeps for a slow reader. */
const MANY = 1500;

onEachBackend('observers under faults', (backend) => {
  test(
    'an observer that fell too far behind ends on the leader of now, and never goes back',
    { timeout: 60_000 },
    async (t) => {
      const scene = new Scene(t, backend);
      const client = scene.client(backend.endpoints);
      const session = await scene.session(scene.direct, { ttlSeconds: 60 });
      const leads = await new Election(session, 'x/e').campaign('first');
      const election = new Election(await scene.session(client, { ttlSeconds: 60 }), 'x/e');
      const slow = election.observe();
      const seen = [await slow.next()];
      // Of the same client, and asked after it: what this one has seen is queued for the slow one.
      const abreast = election.observe();
      const untilSeen = async (value: string): Promise<void> => {
        while ((await abreast.next()).value?.string() !== value);
      };
      const put = (value: string) => scene.direct.kv.put(leads.key, value, { leaseId: session.leaseId });
      for (let n = 0; n < MANY; n += 50)
        await Promise.all(Array.from({ length: 50 }, (_, at) => put(String(n + at))));
      await put('that was all');
      await untilSeen('that was all');
      for (let n = 0; n < MANY / 2; n++) seen.push(await slow.next());
      await leads.proclaim('last');
      await untilSeen('last');
      while (seen.at(-1)?.value?.string() !== 'last') seen.push(await slow.next());
      await leads.resign();
      assert.deepEqual(await slow.next(), { done: false, value: undefined });
      assertRising(seen.map(({ value }) => value?.modRevision ?? 0n));
      await slow.return?.();
      await abreast.return?.();
    },
  );

  test('an observer whose watch is cut sees every value that was written meanwhile, in order', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.direct, { ttlSeconds: 60 });
    const leads = await new Election(session, 'x/cut').campaign('first');
    const watching = new Election(await scene.session(scene.client(proxy), { ttlSeconds: 60 }), 'x/cut');
    const seen: string[] = [];
    const observing = (async () => {
      for await (const leader of watching.observe()) {
        if (leader === undefined) return;
        seen.push(leader.string());
      }
    })();
    await until(() => seen.length === 1);
    await proxy.refuse();
    proxy.cut();
    const values = Array.from({ length: 20 }, (_, n) => String(n));
    for (const value of values) await scene.direct.kv.put(leads.key, value, { leaseId: session.leaseId });
    await proxy.accept();
    await until(() => seen.at(-1) === '19');
    await leads.resign();
    await observing;
    assert.deepEqual(seen, ['first', ...values]);
  });

  test('an observer sees the next leader when one transaction wrote both', { timeout: 20_000 }, async (t) => {
    const scene = new Scene(t, backend);
    const { leaseId } = await scene.session(scene.direct, { ttlSeconds: 60 });
    const election = new Election(await scene.session(scene.direct, { ttlSeconds: 60 }), 'x/twins');
    const leaders = election.observe();
    assert.equal((await leaders.next()).value, undefined);
    await scene.direct.kv.txn({
      then: ['a', 'b'].map((each) => op.put(`x/twins/${each}`, each, { leaseId })),
    });
    const first = await leaders.next();
    await scene.direct.kv.delete(first.value?.key ?? '');
    const second = await leaders.next();
    assert.deepEqual([first.value?.string(), second.value?.string()].sort(), ['a', 'b']);
    await scene.direct.kv.delete({ prefix: 'x/twins/' });
    await leaders.return?.();
  });
});
