import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Client } from 'conclave';
import { startEtcd } from 'conclave/testing';
import { until } from '../support/until.js';
import { childrenOf } from './processes.js';
import { exists, start } from './run.js';

describe('conclave demo', () => {
  /** Runs it to its end and checks every figure. */
  async function survives(server: 'embedded' | 'etcd', ...options: string[]): Promise<void> {
    await using demo = start(['demo', '--json', ...options]);
    assert.equal(await demo.ended, 0, demo.stdout + demo.stderr);
    const figures = JSON.parse(demo.stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
    const { terms, records, staleWritesRejected, handoverMs, jobs, ...rest } = figures;
    const none = { jobsLost: 0, jobsTwice: 0, lostRecords: 0, overlaps: 0, staleWritesAccepted: 0 };
    assert.deepEqual(rest, { ...none, ok: true, server });
    assert.ok(Number(terms) >= 4);
    assert.ok(Number(records) >= 40);
    assert.ok(Number(jobs) >= 30);
    assert.ok(Number(staleWritesRejected) >= 1);
    const { resign, crash, freeze } = handoverMs as Record<string, number>;
    // A resignation is handed on at once; who is killed or frozen keeps its lease of 2 s for a while.
    assert.ok(Number(resign) < Number(crash) && Number(resign) < Number(freeze), JSON.stringify(handoverMs));
  }

  it('survives losing its leader in three ways, on its own server', { timeout: 70_000 }, async () => {
    await survives('embedded');
  });

  it('does so on a real etcd of three members, and leaves nothing in it', { timeout: 90_000 }, async () => {
    await using etcd = await startEtcd({ members: 3 });
    await survives('etcd', '--endpoints', etcd.endpoints.join());
    await using client = new Client({ endpoints: etcd.endpoints });
    assert.equal((await client.kv.range({ prefix: '' })).count, 0n);
    assert.deepEqual(await client.lease.list(), []);
  });

  it('on Ctrl-C ends at once and leaves no process, key or lease behind', { timeout: 60_000 }, async () => {
    await using etcd = await startEtcd();
    await using client = new Client({ endpoints: etcd.endpoints });
    await using demo = start(['demo', '--endpoints', etcd.endpoint]);
    // A frozen worker is the hardest to get rid of.
    await until(() => demo.stdout.includes('kill -STOP') || !demo.running, { timeoutMs: 30_000 });
    const workers = childrenOf(demo.pid);
    assert.ok(workers.length >= 4, `${workers.length} workers`);
    demo.kill('SIGINT');
    assert.equal(await demo.ended, 130, demo.stderr);
    await until(() => workers.every((pid) => !exists(pid)));
    assert.equal((await client.kv.range({ prefix: '' })).count, 0n);
    assert.deepEqual(await client.lease.list(), []);
  });

  it('leaves no process behind when it is killed itself', { timeout: 60_000 }, async () => {
    await using demo = start(['demo']);
    await until(() => demo.stdout.includes('kill -STOP') || !demo.running, { timeoutMs: 30_000 });
    const workers = childrenOf(demo.pid);
    assert.ok(workers.length >= 4, `${workers.length} workers: ${demo.stderr}`);
    demo.kill('SIGKILL');
    await until(() => workers.every((pid) => !exists(pid)), { timeoutMs: 40_000, what: 'the workers ended' });
  });
});
