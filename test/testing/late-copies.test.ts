// FaultProxy's late copies: what arrives a second time, when, and what never does.
import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { after, before, describe, test } from 'node:test';

import { Client, compare, op } from 'conclave';
import { type EtcdCluster, FaultProxy, startEtcd } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';

import { RawClient } from './raw-client.js';

describe('late copies', () => {
  let etcd: EtcdCluster;
  let direct: Client;

  before(async () => {
    etcd = await startEtcd();
    direct = new Client({ endpoints: etcd.endpoints });
  });
  after(async () => {
    await direct.close();
    await etcd.close();
  });

  test('delivers a transaction with compares twice, a grant and a revocation, and plain writes once', async () => {
    await using proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
    const late = proxy.lateCopies({ seed: 1, withinMs: 50 });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    const guarded = { if: [compare.missing('guard')], then: [op.put('guarded', '')] };
    await client.kv.txn(guarded);
    const lease = await client.lease.grant(60);
    await client.lease.revoke(lease.id);
    await client.kv.put('plain', '');
    await client.kv.txn({ then: [op.put('plain', '')] });
    await client.kv.delete('nothing');
    assert.equal(late.taken, 3);
    await late.settled();
    // The grant may have come before the revocation's copy, or after it: then it is there again.
    if ((await direct.lease.list()).length > 0) await direct.lease.revoke(lease.id);
    assert.equal((await direct.kv.get('guarded'))?.version, 2n);
    assert.equal((await direct.kv.get('plain'))?.version, 2n);
    await direct.kv.delete({ prefix: '' });
  });

  test('has a request sent again by who may do so, and delivers the first one later', async () => {
    await using proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
    const late = proxy.lateCopies({ kind: 'first', seed: 1, withinMs: 50 });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    let repeats = 0;
    const onRepeat = (): void => {
      repeats++;
    };
    const guarded = { if: [compare.missing('guard')], then: [op.put('guarded', '')] };
    await client.kv.txn(guarded, { idempotent: true, onRepeat });
    assert.equal(repeats, 1);
    await late.settled();
    assert.equal((await direct.kv.get('guarded'))?.version, 2n);
    // Who must not send it again is told that nobody knows; it is carried out all the same.
    await assert.rejects(client.kv.txn(guarded), { code: 'UNKNOWN_OUTCOME' });
    await late.settled();
    assert.equal((await direct.kv.get('guarded'))?.version, 3n);
    assert.equal(late.arrived, 2);
    await direct.kv.delete({ prefix: '' });
  });

  test('chooses the same requests and moments for the same seed', async () => {
    const chosen: number[][] = [];
    for (let round = 0; round < 2; round++) {
      await using proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
      const late = proxy.lateCopies({ chance: 0.5, seed: 7, withinMs: 1 });
      using raw = new RawClient(proxy.endpoint);
      const taken: number[] = [];
      for (let at = 0; at < 20; at++) {
        await assert.rejects(raw.call(services.Lease.LeaseRevoke, { ID: BigInt(at + 1) }), {
          code: status.NOT_FOUND,
        });
        taken.push(late.taken);
      }
      await late.settled();
      chosen.push(taken);
    }
    const [first, second] = chosen;
    assert.deepEqual(first, second);
    const last = first?.at(-1) ?? 0;
    assert.ok(last > 0 && last < 20, `${last} of 20 were taken`);
  });

  test('takes no more once it is stopped or the proxy healed, and forgets what is under way when the proxy is closed', async () => {
    const proxy = await FaultProxy.start(etcd.endpoint, { grpc: true });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    const spec = { if: [compare.missing('guard')], then: [op.put('guarded', '')] };
    const late = proxy.lateCopies({ seed: 3, withinMs: 3_600_000 });
    await client.kv.txn(spec);
    await proxy.heal();
    await client.kv.txn(spec);
    assert.equal(late.taken, 1);
    await proxy.close();
    assert.equal(late.taken, 0);
    await late.settled();
    assert.equal((await direct.kv.get('guarded'))?.version, 2n);
    await direct.kv.delete({ prefix: '' });
  });
});
