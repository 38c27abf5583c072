// DoubleBarrier behind a fault proxy: a party that is slow, cut off, or given up; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { DoubleBarrier } from 'conclave';

import { RPC, Scene } from '../faults/scene.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { code } from '../support/world.js';

onEachBackend('DoubleBarrier under faults', (backend) => {
  it('refuses a party of another count that a full round has passed over, also when all of it have left', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.direct, { ttlSeconds: 20 });
    const odd = new DoubleBarrier(await scene.session(scene.client(proxy), { ttlSeconds: 20 }), 'odd', {
      count: 2,
    });
    const three = [1, 2, 3].map(() => new DoubleBarrier(session, 'odd', { count: 3 }));
    const [first] = three as [DoubleBarrier];
    const entering = [first.enter()];
    await scene.untilKeys('odd/.double-barrier/party/', 1);
    // It arrives, and does not see for a long time among whom.
    const slow = proxy.onCall(RPC.range, 'holdRequest', { where: (message) => message.includes('odd/') });
    const refused = assert.rejects(odd.enter(), code('MISMATCH'));
    await slow.hit();
    entering.push(...three.slice(1).map((each) => each.enter()));
    const [round, ...same] = await Promise.all(entering);
    assert.deepEqual(same, [round, round]);
    // Nor does it hold up those who leave.
    await Promise.all(three.map((each) => each.leave()));
    // Another round of its own count does not take it in either: it was not one of its two.
    const two = [1, 2].map(() => new DoubleBarrier(session, 'odd', { count: 2 }));
    await Promise.all(two.map((each) => each.enter()));
    slow.release();
    await refused;
    await Promise.all(two.map((each) => each.leave()));
    assert.deepEqual(await scene.keys('odd/'), []);
  });

  it('goes on removing the key of a party that was given up while etcd could not be reached', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { timeoutMs: 1000 });
    const ours = new DoubleBarrier(await scene.session(client, { ttlSeconds: 600 }), 'cut-off', { count: 2 });
    const stop = new AbortController();
    const rejected = assert.rejects(ours.enter({ signal: stop.signal }), /given up/);
    await scene.untilKeys('cut-off/.double-barrier/party/', 1);
    await proxy.refuse();
    proxy.cut();
    stop.abort(new Error('given up'));
    await rejected;
    assert.equal((await scene.keys('cut-off/')).length, 1);
    await proxy.accept();
    await scene.untilKeys('cut-off/', 0);
  });

  it('leaves no key when the session is closed while its party enters, or the last ones give up', async (t) => {
    const scene = new Scene(t, backend);
    const [a, b] = [await scene.session(scene.direct), await scene.session(scene.direct)];
    const [ours, theirs] = [a, b].map((each) => new DoubleBarrier(each, 'closing', { count: 3 })) as [
      DoubleBarrier,
      DoubleBarrier,
    ];
    const stop = new AbortController();
    const [gaveUp, closed] = [
      assert.rejects(ours.enter({ signal: stop.signal }), /no longer/),
      assert.rejects(theirs.enter(), code('CLOSED')),
    ];
    await scene.untilKeys('closing/.double-barrier/party/', 2);
    stop.abort(new Error('no longer'));
    await gaveUp;
    await b.close();
    await closed;
    assert.deepEqual(await scene.keys('closing/'), []);
    const alone = assert.rejects(ours.enter(), code('CLOSED'));
    await scene.untilKeys('closing/.double-barrier/party/', 1);
    await a.close();
    await alone;
    assert.deepEqual(await scene.keys('closing/'), []);
  });

  it('goes on entering and leaving when a read is not answered within the time limit of the client', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const session = await scene.session(scene.client(proxy, { timeoutMs: 300 }), { ttlSeconds: 600 });
    const [one, other] = [1, 2].map(() => new DoubleBarrier(session, 'slow', { count: 2 })) as [
      DoubleBarrier,
      DoubleBarrier,
    ];
    const lose = () => proxy.onCall(RPC.range, 'dropRequest', { then: 'silence', times: 2 });
    const entries = lose();
    const entering = [one.enter()];
    await until(() => entries.hits === 2);
    entering.push(other.enter());
    await Promise.all(entering);
    const exits = lose();
    const leaving = [one.leave()];
    await until(() => exits.hits === 2);
    leaving.push(other.leave());
    await Promise.all(leaving);
  });
});
