// Endpoints that are others from one moment to the next: given anew, learnt from the member list, while calls are made.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Client, hasCode, Mutex } from 'conclave';
import { FaultProxy, startEtcd } from 'conclave/testing';

import { onEachBackend } from '../support/backends.js';
import { further, load } from '../support/load.js';
import { removeMember } from '../support/members.js';
import { until } from '../support/until.js';
import { nextOf, RPC, Scene } from './scene.js';

/** Reads and writes under one name, as `load` wants them. */
function work(client: Client): (name: string) => Promise<void> {
  return async (name) => {
    const { revision } = await client.kv.put(name, 'x');
    assert.ok(((await client.kv.get(name))?.modRevision ?? 0n) >= revision);
  };
}

onEachBackend('endpoints that are replaced', (backend) => {
  test('calls, watches and locks go on with those that are left, and no call fails', async (t) => {
    const scene = new Scene(t, backend);
    const [a, b] = [await scene.proxy(), await scene.proxy()];
    const client = scene.client(a);
    const session = await scene.session(client);
    const lock = await new Mutex(session, 'replaced').lock();
    const watch = client.watch('seen');
    await watch.created;
    const calls = load(work(client));
    let [from, to] = [a, b];
    for (let round = 0; round < 6; round++) {
      await further(calls);
      client.setEndpoints(round % 2 === 0 ? [to.endpoint] : [to.endpoint, to.endpoint]);
      assert.deepEqual(client.endpoints, [to.endpoint]);
      await from.waitFor(({ connections }) => connections === 0);
      await further(calls);
      const { revision } = await client.kv.put('seen', String(round));
      assert.deepEqual(
        (await nextOf(watch)).events.map(({ kv }) => kv.modRevision),
        [revision],
      );
      [from, to] = [to, from];
    }
    await calls.stop();
    watch.close();
    assert.ok(lock.held);
    assert.equal(session.state, 'active');
    await until(() => session.remainingMs > 3000, { what: 'the lease is renewed there' });
    await lock.unlock();
    await client.kv.delete({ prefix: 'load/' });
    await client.kv.delete('seen');
  });

  test('what one was asked before it was left is answered yet, and its connection ends then', async (t) => {
    const scene = new Scene(t, backend);
    const [a, b] = [await scene.proxy(), await scene.proxy()];
    const client = scene.client(a);
    await client.kv.get('late');
    const fault = a.onCall(RPC.put, 'holdReply');
    const put = client.kv.put('late', 'x');
    await fault.hit();
    client.setEndpoints(b.endpoint);
    assert.equal((await client.kv.get('late'))?.string(), 'x');
    assert.equal(b.requests(RPC.range), 1);
    assert.equal(a.connections, 1);
    fault.release();
    assert.ok((await put).revision > 0n);
    await a.waitFor(({ connections }) => connections === 0);
    await client.kv.delete('late');
  });

  test('a call that found nobody goes to the one that is named meanwhile', async (t) => {
    const scene = new Scene(t, backend);
    const [a, b] = [await scene.proxy(), await scene.proxy()];
    await a.refuse();
    const client = scene.client(a);
    const watch = client.watch('nobody');
    const get = client.kv.get('nobody');
    const put = client.kv.put('nobody', 'x');
    client.setEndpoints([b.endpoint]);
    await Promise.all([get, put]);
    await watch.created;
    watch.close();
    await client.kv.delete('nobody');
  });

  test('clients are spread over one that is new, and leave it when it is no more', async (t) => {
    const scene = new Scene(t, backend);
    const members = [await scene.proxy(), await scene.proxy(), await scene.proxy()];
    const endpoints = members.map(({ endpoint }) => endpoint);
    const first = endpoints.slice(0, 2);
    const clients = Array.from({ length: 30 }, () => new Client({ batch: 'none', endpoints: first }));
    scene.atEnd(() => Promise.all(clients.map((client) => client.close())));
    const asked = async (): Promise<number[]> => {
      const before = members.map((member) => member.requests(RPC.range));
      await Promise.all(clients.map((client) => client.kv.get('spread')));
      return members.map((member, at) => member.requests(RPC.range) - (before[at] ?? 0));
    };
    const spreadOver = (count: number) => async (): Promise<boolean> =>
      (await asked()).every((calls, at) => calls > 0 === at < count);
    await until(spreadOver(2), { timeoutMs: 20_000 });
    for (const client of clients) client.setEndpoints(endpoints);
    await until(spreadOver(3), { timeoutMs: 20_000 });
    for (const client of clients) client.setEndpoints(first);
    await spreadOver(2)().then(assert.ok);
    await members[2]?.waitFor(({ connections }) => connections === 0);
  });

  test('what is no endpoint, or none at all, changes nothing', async (t) => {
    const scene = new Scene(t, backend);
    const client = scene.client(await scene.proxy());
    const before = client.endpoints;
    assert.throws(() => client.setEndpoints([]), /endpoints must name at least one/);
    assert.throws(() => client.setEndpoints([...before, 'nonsense']), /nonsense.*http:\/\/HOST:PORT/);
    assert.throws(() => client.setEndpoints([7 as unknown as string]), /must be a string, not 7/);
    assert.deepEqual(client.endpoints, before);
    await client.kv.get('a');
    await client.close();
    assert.throws(
      () => client.setEndpoints(before),
      (error) => hasCode(error, 'CLOSED'),
    );
    await assert.rejects(client.syncEndpoints(), (error) => hasCode(error, 'CLOSED'));
  });
});

describe('endpoints from the member list', () => {
  test('a member that is removed is left before it ends, one that is added is found; no call fails', async (t) => {
    const etcd = await startEtcd({ electionTimeoutMs: 500, heartbeatIntervalMs: 50, members: 3 });
    t.after(() => etcd.close());
    const [first, second] = etcd.members;
    assert.ok(first !== undefined && second !== undefined);
    await using client = new Client({ endpoints: first.endpoint });
    assert.deepEqual([...(await client.syncEndpoints())].sort(), [...etcd.endpoints].sort());
    assert.deepEqual([...client.endpoints].sort(), [...etcd.endpoints].sort());
    await using regular = new Client({ endpoints: second.endpoint, syncIntervalMs: 100 });
    await until(() => regular.endpoints.length === 3, { what: 'the list is asked for by itself' });
    const calls = load(work(client));
    await further(calls);
    const members = await client.cluster.memberList();
    const leader = await until(() => etcd.leader());
    // One that follows, so that no call meets an election.
    const leaving = etcd.members.find((member) => member !== leader && member !== second);
    assert.ok(leaving);
    const id = members.find(({ clientUrls }) => clientUrls.includes(leaving.endpoint))?.id;
    assert.ok(id !== undefined);
    const rest = etcd.endpoints.filter((endpoint) => endpoint !== leaving.endpoint);
    client.setEndpoints(rest);
    await further(calls);
    await removeMember(client, id);
    await further(calls);
    assert.deepEqual([...(await client.syncEndpoints())].sort(), [...rest].sort());
    await until(() => regular.endpoints.length === 2, { what: 'the list is asked for again' });
    await regular.kv.get('a');
    await calls.stop();
  });

  test('what cannot be connected to is not taken', async (t) => {
    const nowhere = 'http://127.0.0.1:1';
    const etcd = await startEtcd({ args: [`--advertise-client-urls=${nowhere}`] });
    t.after(() => etcd.close());
    await using client = new Client({ endpoints: etcd.endpoint, syncIntervalMs: 50 });
    await assert.rejects(client.syncEndpoints({ timeoutMs: 1000 }), (error) => {
      assert.ok(hasCode(error, 'UNAVAILABLE') && error.message.includes(nowhere), String(error));
      return true;
    });
    const stopped = AbortSignal.abort(new Error('no more'));
    await assert.rejects(client.syncEndpoints({ signal: stopped }), /no more/);
    assert.deepEqual(client.endpoints, etcd.endpoints);
    await client.kv.get('a');
  });

  test('nobody answers: the endpoints stay', async () => {
    const proxy = await FaultProxy.start('http://127.0.0.1:1');
    await proxy.close();
    await using client = new Client({ endpoints: proxy.endpoint });
    await assert.rejects(client.syncEndpoints({ timeoutMs: 300 }), (error) => hasCode(error, 'UNAVAILABLE'));
    assert.deepEqual(client.endpoints, [proxy.endpoint]);
  });
});
