// stm: a commit whose answer is lost is applied once or not at all, and the caller is told which. On a real etcd.
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';

import { Client as RawClient, credentials } from '@grpc/grpc-js';
import { type Client, hasCode, stm, type StmOptions } from 'conclave';
import { type EtcdCluster, type FaultProxy, startEtcd } from 'conclave/testing';
import { assertNothingLeft, LOSSES, RPC, Scene, timed } from '../faults/scene.js';

/** The commit of `add`, and no other transaction. */
const isCommit = (message: Buffer): boolean => message.includes('acct/') && message.includes('conclave/stm/');

/** Adds one: applied twice, or not at all, it shows in the sum. */
async function add(
  client: Client,
  key: string,
  options: StmOptions = {},
): Promise<{ attempts: number; revision: bigint }> {
  return stm(
    client,
    async (tx) => {
      tx.put(key, String(Number((await tx.get(key))?.string() ?? 0) + 1));
    },
    options,
  );
}

/** Sends a transaction as it was caught on the wire. */
async function sendTxn(endpoint: string, message: Buffer): Promise<void> {
  const raw = new RawClient(endpoint.replace('http://', ''), credentials.createInsecure());
  const same = (bytes: Buffer): Buffer => bytes;
  await new Promise<void>((resolve, reject) => {
    raw.makeUnaryRequest(RPC.txn, same, same, message, (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  raw.close();
}

describe('stm, when answers are lost', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await startEtcd();
  });
  after(async () => {
    await assertNothingLeft(etcd);
    await etcd.close();
  });

  const begin = async (
    t: TestContext,
    key: string,
  ): Promise<{ scene: Scene; proxy: FaultProxy; client: Client }> => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { timeoutMs: 1500 });
    scene.atEnd(() => scene.direct.kv.delete(key));
    // Records end with their lease, 200 ms after the last commit; the client stays until then.
    scene.atEnd(() => scene.untilKeys('conclave/stm/', 0));
    await add(client, key);
    return { client, proxy, scene };
  };

  for (const then of LOSSES) {
    test(`a commit whose answer is lost is found to be applied, and not repeated (${then})`, async (t) => {
      const key = `acct/${then}`;
      const { client, proxy, scene } = await begin(t, key);
      const fault = proxy.onCall(RPC.txn, 'dropReply', { then, where: isCommit });
      const { attempts, revision } = await add(client, key);
      assert.equal(fault.hits, 1);
      assert.equal(attempts, 1);
      const kv = await scene.direct.kv.get(key);
      assert.equal(kv?.string(), '2');
      assert.equal(kv.modRevision, revision);
      await add(client, key);
      assert.equal((await scene.direct.kv.get(key))?.string(), '3');
    });

    test(`a commit that never arrived is found not to be, and the function runs again (${then})`, async (t) => {
      const key = `acct/never-${then}`;
      const { client, proxy, scene } = await begin(t, key);
      proxy.onCall(RPC.txn, 'dropRequest', { then, where: isCommit });
      const { attempts } = await add(client, key);
      assert.equal(attempts, 2);
      assert.equal((await scene.direct.kv.get(key))?.string(), '2');
    });
  }

  test('a commit whose answer is lost is proven although others have written the key since', async (t) => {
    const key = 'acct/overwritten';
    const { client, proxy, scene } = await begin(t, key);
    const lost = proxy.onCall(RPC.txn, 'dropReply', { then: 'reset', where: isCommit });
    // The look at the record waits until somebody else has written the very same value, and more.
    const look = proxy.onCall(RPC.txn, 'holdRequest', {
      times: 1,
      where: (message) => message.includes('void '),
    });
    const adding = add(client, key);
    await lost.hit();
    await look.hit();
    assert.equal((await scene.direct.kv.get(key))?.string(), '2');
    await scene.direct.kv.put(key, '2');
    await scene.direct.kv.put(key, '7');
    look.release();
    const { attempts } = await adding;
    assert.equal(attempts, 1);
    assert.equal((await scene.direct.kv.get(key))?.string(), '7');
  });

  test('a commit that arrives after it was found not to have is refused, even if it compares no key', async (t) => {
    const key = 'acct/late';
    const { client, proxy, scene } = await begin(t, key);
    let lost: Buffer | undefined;
    const where = (message: Buffer): boolean => {
      if (!isCommit(message)) return false;
      lost ??= Buffer.from(message);
      return true;
    };
    proxy.onCall(RPC.txn, 'dropRequest', { then: 'reset', where });
    let ran = 0;
    const { attempts } = await stm(client, async (tx) => tx.put(key, `attempt ${++ran}`));
    assert.equal(attempts, 2);
    assert.ok(lost);
    await sendTxn(etcd.endpoint, lost);
    assert.equal((await scene.direct.kv.get(key))?.string(), 'attempt 2');
  });

  test('a commit that arrives late, after its record and the lease were gone and the lease was granted anew, is refused', async (t) => {
    const key = 'acct/granted';
    const { client, proxy, scene } = await begin(t, key);
    await scene.untilKeys('conclave/stm/', 0);
    // From here on: a lease, a record and a commit of their own.
    let lost: Buffer | undefined;
    proxy.onCall(RPC.txn, 'dropRequest', {
      then: 'reset',
      where: (message) => {
        if (isCommit(message)) lost ??= Buffer.from(message);
        return isCommit(message);
      },
    });
    const before = await scene.direct.lease.list();
    let leaseId: bigint | undefined;
    const { attempts } = await stm(client, async (tx) => {
      const now = Number((await tx.get(key))?.string() ?? 0);
      tx.put(`${key}/once`, String(now));
      leaseId = (await scene.direct.lease.list()).find((id) => !before.includes(id)) ?? leaseId;
    });
    assert.equal(attempts, 2);
    await scene.untilKeys('conclave/stm/', 0);
    await scene.direct.kv.delete(`${key}/once`);
    assert.ok(lost !== undefined && leaseId !== undefined);
    const granted = await scene.direct.lease.grant(60, { id: leaseId });
    await sendTxn(etcd.endpoint, lost);
    assert.equal(await scene.direct.kv.get(`${key}/once`), undefined);
    await scene.direct.lease.revoke(granted.id);
  });

  test('a commit whose record has ended with its lease is of unknown outcome, and not made again', async (t) => {
    const key = 'acct/ended';
    const { client, proxy, scene } = await begin(t, key);
    const lost = proxy.onCall(RPC.txn, 'dropReply', { then: 'reset', where: isCommit });
    const look = proxy.onCall(RPC.txn, 'holdRequest', { where: (message) => message.includes('void ') });
    const adding = assert.rejects(add(client, key), (error) => hasCode(error, 'UNKNOWN_OUTCOME'));
    await lost.hit();
    await look.hit();
    const { kvs } = await scene.direct.kv.range({ prefix: 'conclave/stm/' });
    for (const { leaseId } of kvs) await scene.direct.lease.revoke(leaseId ?? 0n);
    look.release();
    await adding;
    assert.equal((await scene.direct.kv.get(key))?.string(), '2');
  });

  test('a commit is settled across a crash of the server', async (t) => {
    const key = 'acct/crash';
    const { client, proxy, scene } = await begin(t, key);
    const fault = proxy.onCall(RPC.txn, 'dropReply', { then: 'silence', where: isCommit });
    const adding = add(client, key);
    await fault.hit();
    const [member] = etcd.members;
    await member?.kill();
    await member?.restart();
    await adding;
    assert.equal((await scene.direct.kv.get(key))?.string(), '2');
  });

  test('without records a lost answer is UNKNOWN_OUTCOME, and nothing is sent twice', async (t) => {
    const key = 'acct/bare';
    const { client, proxy, scene } = await begin(t, key);
    const before = proxy.requests(RPC.txn);
    const where = (message: Buffer): boolean => message.includes('acct/bare') && message.includes('2');
    const fault = proxy.onCall(RPC.txn, 'dropReply', { then: 'reset', where });
    await assert.rejects(add(client, key, { records: false }), (error) => hasCode(error, 'UNKNOWN_OUTCOME'));
    assert.equal(fault.hits, 1);
    assert.equal(proxy.requests(RPC.txn) - before, 2, 'one read, one commit');
    assert.equal((await scene.direct.kv.get(key))?.string(), '2');
  });

  test('a client that cannot reach etcd any more closes all the same; its records end with their lease', async (t) => {
    const { scene, proxy } = await begin(t, 'acct/close');
    await scene.untilKeys('conclave/stm/', 0);
    const client = scene.client(proxy, { timeoutMs: 60_000 });
    await add(client, 'acct/close');
    const { kvs } = await scene.direct.kv.range({ prefix: 'conclave/stm/' });
    proxy.drop();
    const { ms } = await timed(client.close());
    assert.ok(ms < 10_000, `closed after ${ms} ms`);
    await assert.rejects(client.kv.get('acct/close'), (error) => hasCode(error, 'CLOSED'));
    const leases = new Set(kvs.map((kv) => kv.leaseId ?? 0n));
    assert.equal(leases.size, 1);
    for (const leaseId of leases) {
      assert.ok((await scene.direct.lease.timeToLive(leaseId)).ttlSeconds > 0);
      await scene.direct.lease.revoke(leaseId);
    }
  });

  test('a record that gets no lease is UNAVAILABLE, since nothing was written', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const client = scene.client(proxy, { timeoutMs: 400 });
    const fault = proxy.onCall(RPC.grant, 'dropReply', { then: 'silence', times: 1000 });
    const sent = proxy.requests(RPC.txn);
    const put = stm(client, (tx) => tx.put('acct/none', '1'));
    await assert.rejects(
      put,
      (error) => hasCode(error, 'UNAVAILABLE') && /nothing was written/.test(error.message),
    );
    assert.ok(fault.hits > 0);
    assert.equal(proxy.requests(RPC.txn), sent);
    fault.release();
    await proxy.heal();
    await stm(client, (tx) => tx.put('acct/none', '2'));
    await scene.direct.kv.delete('acct/none');
    const leases = await scene.direct.lease.list(); // What the lost answers granted.
    await Promise.all(leases.map((id) => scene.direct.lease.revoke(id)));
  });

  test('a record that somebody removes costs an attempt, not the transaction', async (t) => {
    const key = 'acct/removed';
    const { client, scene } = await begin(t, key);
    await scene.direct.kv.delete({ prefix: 'conclave/stm/' });
    await add(client, key);
    const leases = await scene.direct.lease.list();
    await Promise.all(leases.map((id) => scene.direct.lease.revoke(id)));
    await add(client, key);
    assert.equal((await scene.direct.kv.get(key))?.string(), '3');
  });
});
