/** What only other clients look at: hashes, who answers, which ids leases get, how deep transactions may be. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import { EmbeddedServer } from 'conclave/embedded';
import { startEtcd } from 'conclave/testing';
import type { TxnRequestInput, TxnResponse } from '#conclave/proto/messages.gen.js';
import { services } from '#conclave/proto/services.js';
import { Random } from '#conclave/testing/sim/random.js';
import { BareChannel } from '../support/bare-channel.js';
import { onEachBackend } from '../support/backends.js';

const { Cluster, KV, Lease, Maintenance } = services;

onEachBackend('as etcd has it', (backend) => {
  let bare: BareChannel;
  before(() => {
    bare = new BareChannel(backend.endpoints[0] ?? '');
  });
  after(() => bare[Symbol.dispose]());

  /** A put inside so many transactions, each in the one before. */
  const nested = (levels: number, key: string): TxnRequestInput => {
    let txn: TxnRequestInput = { success: [{ requestPut: { key: Buffer.from(key) } }] };
    for (let level = 1; level < levels; level++) txn = { success: [{ requestTxn: txn }] };
    return txn;
  };

  test('a transaction 128 deep is done and answered; a deeper one is refused, and nothing done', async () => {
    for (const levels of [50, 128]) {
      let answer: TxnResponse | undefined = await bare.call(KV.Txn, nested(levels, `deep${levels}`));
      const revision = answer.header?.revision;
      let deep = 1;
      for (; answer.responses[0]?.responseTxn !== undefined; deep++) answer = answer.responses[0].responseTxn;
      assert.equal(deep, levels);
      assert.equal(answer.responses[0]?.responsePut?.header?.revision, revision);
    }
    for (const levels of [129, 400])
      await assert.rejects(bare.call(KV.Txn, nested(levels, `deep${levels}`)), {
        message: '3 INVALID_ARGUMENT: etcdserver: too many operations in txn request',
      });
    const { kvs } = await bare.call(KV.Range, { key: Buffer.from('deep'), rangeEnd: Buffer.from('deeq') });
    assert.deepEqual(
      kvs.map(({ key }) => String(key)),
      ['deep128', 'deep50'],
    );
    for (const { key } of kvs) await bare.call(KV.DeleteRange, { key });
  });

  test('the list of members names the peer’s place too, and its header has no revision', async () => {
    const { header, members } = await bare.call(Cluster.MemberList, {});
    assert.equal(header?.revision, 0n);
    assert.deepEqual(
      members.map(({ ID, peerURLs }) => [ID, peerURLs.length]),
      [[header.memberId, 1]],
    );
  });

  test('each lease id that the server chooses is above the one before, and begins with the member’s', async () => {
    const { header } = await bare.call(Maintenance.Status, {});
    const ids: bigint[] = [];
    for (let at = 0; at < 20; at++) ids.push((await bare.call(Lease.LeaseGrant, { TTL: 100n })).ID);
    assert.deepEqual(
      ids,
      [...ids].sort((a, b) => (a < b ? -1 : 1)),
    );
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.equal(id >> 48n, BigInt.asUintN(15, header?.memberId ?? 0n));
    for (const ID of ids) await bare.call(Lease.LeaseRevoke, { ID });
  });
});

describe('the hash of the same history', () => {
  test('is the same as etcd’s, before and after compactions', async (t) => {
    const { CONCLAVE_SEED } = process.env;
    const seed = Number(CONCLAVE_SEED ?? randomInt(2 ** 31));
    t.diagnostic(`CONCLAVE_SEED=${seed}`);
    const random = new Random(seed);
    await using embedded = await EmbeddedServer.start();
    await using etcd = await startEtcd();
    using ours = new BareChannel(embedded.endpoint);
    using theirs = new BareChannel(etcd.endpoint);
    let compacted = -1n;
    for (let step = 0; step < 150; step++) {
      const key = Buffer.from(random.pick(['a', 'b', 'c']));
      const what = random.below(8);
      for (const side of [ours, theirs]) {
        if (what < 4) await side.call(KV.Put, { key, value: Buffer.from(String(step % 7)) });
        else if (what < 7) await side.call(KV.DeleteRange, { key });
      }
      const revision = (await ours.call(KV.Range, { key })).header?.revision ?? 0n;
      const target = revision - BigInt(random.below(4));
      if (what === 7 && target > compacted && target > 0n) {
        for (const side of [ours, theirs]) await side.call(KV.Compact, { physical: true, revision: target });
        compacted = target;
      }
      for (const at of [0n, revision - 1n, revision - 2n]) {
        // Of a revision at which it compacted etcd 3.5 remembers the hash from before.
        if (at !== 0n && at <= compacted) continue;
        const [a, b] = await Promise.all(
          [ours, theirs].map((side) => side.call(Maintenance.HashKV, { revision: at < 0n ? 0n : at })),
        );
        assert.deepEqual(
          [a?.hash, a?.compactRevision, a?.header?.revision],
          [b?.hash, b?.compactRevision, b?.header?.revision],
          `step ${step}, at revision ${at} of ${revision}`,
        );
      }
    }
  });
});
