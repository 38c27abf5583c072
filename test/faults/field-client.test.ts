// Fault 9 of others (README.md), clause by clause, on a real etcd behind the fault proxy.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { type Client, compare, hasCode, op } from 'conclave';
import { services } from '#conclave/proto/services.js';
import { until } from '../support/until.js';
import { assertSame, etcdOfSuite, LOSSES, nextOf, RPC, Scene, timed } from './scene.js';

const EVENTS = 5000;

/** Writes 5,000 times below `name`; resolves with the revisions of the writes, in order. */
async function writeEvents(client: Client, name: string): Promise<bigint[]> {
  const revisions: bigint[] = [];
  let sent = 0;
  const worker = async (): Promise<void> => {
    while (sent < EVENTS) {
      const { revision } = await client.kv.put(`${name}/${sent++ % 50}`, 'x'.repeat(200));
      revisions.push(revision);
    }
  };
  await Promise.all(Array.from({ length: 100 }, worker));
  return revisions.sort((a, b) => (a < b ? -1 : 1));
}

describe('the faults of others: the client', () => {
  const etcd = etcdOfSuite();

  test('fault 9: compaction while disconnected ends a watch with COMPACTED, and says what is left', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const watch = scene.client(proxy).watch({ prefix: 'f9c/' });
    await watch.created;
    await proxy.refuse();
    proxy.cut();
    for (let at = 0; at < 5; at++) await scene.direct.kv.put('f9c/a', String(at));
    const { revision } = await scene.direct.kv.put('f9c/b', 'last');
    await scene.direct.kv.compact(revision);
    await proxy.accept();
    await assert.rejects(watch.next(), { code: 'COMPACTED', compactRevision: revision });
    await scene.direct.kv.delete({ prefix: 'f9c/' });
  });

  test('fault 9: compaction while disconnected is followed by a snapshot when a watch relists', async (t) => {
    const scene = new Scene(t, etcd);
    const proxy = await scene.proxy();
    const watch = scene.client(proxy).watch({ prefix: 'f9r/' }, { onCompacted: 'relist' });
    await watch.created;
    await proxy.refuse();
    proxy.cut();
    await scene.direct.kv.put('f9r/a', '1');
    const { revision } = await scene.direct.kv.put('f9r/b', '2');
    await scene.direct.kv.compact(revision);
    await proxy.accept();
    const first = await nextOf(watch);
    assert.deepEqual(
      first.snapshot?.map((kv) => kv.key),
      ['f9r/a', 'f9r/b'],
    );
    const after = await scene.direct.kv.put('f9r/c', '3');
    const second = await nextOf(watch);
    assert.equal(second.events[0]?.kv.modRevision, after.revision);
    watch.close();
    await scene.direct.kv.delete({ prefix: 'f9r/' });
  });

  test('fault 9: a watch cut while catching up delivers all 5,000 of 5,000 events, once and in order', async (t) => {
    const scene = new Scene(t, etcd);
    const written = await writeEvents(scene.direct, 'f9w');
    const [startRevision] = written;
    const proxy = await scene.proxy();
    // The connection is cut in front of the second batch of events, and so again on each of the next connections.
    let cuts = 0;
    let batches = 0;
    const fault = proxy.onCall(RPC.watch, 'holdReply', {
      where: (message) => {
        if (services.Watch.Watch.responseDeserialize(message).events.length > 0) batches += 1;
        return cuts < 8 && batches > cuts * 2;
      },
    });
    const revisions: bigint[] = [];
    const reading = (async () => {
      for await (const { events } of scene.client(proxy).watch({ prefix: 'f9w/' }, { startRevision })) {
        revisions.push(...events.map((event) => event.kv.modRevision));
        if (revisions.length >= EVENTS) break;
      }
    })();
    while (cuts < 4) {
      await fault.hit(cuts + 1);
      cuts += 1;
      proxy.cut();
    }
    fault.release();
    await reading;
    assertSame(revisions, written);
    await scene.direct.kv.delete({ prefix: 'f9w/' });
  });

  describe('two at a time', { concurrency: 2 }, () => {
    for (const places of [2, 3]) {
      test(`fault 9: with one silent endpoint of ${places}, 40 calls all settle, reads and guarded writes succeed`, async (t) => {
        const scene = new Scene(t, etcd);
        const proxies = await Promise.all(Array.from({ length: places }, () => scene.proxy()));
        // Each endpoint in turn falls silent under a client that has a connection to it.
        for (const [at, silent] of proxies.entries()) {
          const client = scene.client(proxies, { timeoutMs: 5000 });
          await Promise.all(proxies.map((proxy) => client.maintenance.status({ endpoint: proxy.endpoint })));
          silent.drop();
          const calls = Array.from({ length: 40 }, async (_, n) => {
            const key = `f9s/${places}/${at}/${n}`;
            const call =
              n % 4 === 0
                ? client.kv.put(key, 'x')
                : n % 4 === 1
                  ? client.kv.txn(
                      { if: [compare.missing(key)], then: [op.put(key, 'x')] },
                      { idempotent: true },
                    )
                  : client.kv.get(key);
            const { ms, error } = await timed<unknown>(call);
            assert.ok(ms < 5500, `call ${n} took ${ms} ms`);
            // Only a plain write may stay unclear: it cannot be sent again.
            assert.ok(error === undefined || (n % 4 === 0 && hasCode(error, 'UNKNOWN_OUTCOME')), `call ${n}`);
          });
          await Promise.all(calls);
          const { ms } = await timed(client.kv.put('f9s/after', 'x'));
          assert.ok(ms < 2000, `the next write took ${ms} ms`);
          await client.close();
          await silent.heal();
        }
        await scene.direct.kv.delete({ prefix: 'f9s/' });
      });
    }

    test('fault 9: an endpoint that was silent from the start hangs no call either', async (t) => {
      const scene = new Scene(t, etcd);
      const [silent, good] = [await scene.proxy(), await scene.proxy()];
      silent.drop();
      for (let round = 0; round < 6; round++) {
        const client = scene.client([silent, good], { timeoutMs: 5000 });
        const calls = Array.from({ length: 40 }, (_, n) => timed(client.kv.get(`f9d/${n}`)));
        for (const { ms, error } of await Promise.all(calls)) {
          assert.equal(error, undefined);
          assert.ok(ms < 5000, `${ms} ms`);
        }
        await client.close();
      }
    });

    test('fault 9: deadlines of 1 ms hurt nobody else', async (t) => {
      const scene = new Scene(t, etcd);
      const proxies = [await scene.proxy(), await scene.proxy()];
      const client = scene.client(proxies);
      await Promise.all(proxies.map((proxy) => client.maintenance.status({ endpoint: proxy.endpoint })));
      for (const proxy of proxies) proxy.delay(20);
      for (let round = 0; round < 5; round++) {
        const hasty = Array.from({ length: 20 }, () => timed(client.kv.get('f9t', { timeoutMs: 1 })));
        const calm = Array.from({ length: 20 }, () => timed(client.kv.get('f9t')));
        for (const { error } of await Promise.all(hasty))
          assert.ok(hasCode(error, 'DEADLINE_EXCEEDED', 'UNAVAILABLE'));
        for (const { ms, error } of await Promise.all(calm)) {
          assert.equal(error, undefined);
          assert.ok(ms < 2000, `${ms} ms`);
        }
        const { ms, error } = await timed(client.kv.put('f9t', 'x'));
        assert.equal(error, undefined);
        assert.ok(ms < 2000, `${ms} ms`);
      }
      await scene.direct.kv.delete('f9t');
    });

    for (const when of ['healthy', 'unreachable'] as const) {
      test(`fault 9: close() lets the process exit, with calls, watches and leases under way (${when})`, async (t) => {
        const scene = new Scene(t, etcd);
        const [one, two] = [await scene.proxy(), await scene.proxy()];
        const file = fileURLToPath(new URL('busy-child.js', import.meta.url));
        const child = spawn(process.execPath, [file, one.endpoint, two.endpoint], {
          stdio: ['pipe', 'pipe', 'inherit'],
        });
        scene.atEnd(async () => child.kill('SIGKILL'));
        const exited = once(child, 'exit');
        let said = '';
        child.stdout.on('data', (text: Buffer) => (said += text.toString()));
        await until(() => said.includes('busy'), { timeoutMs: 20_000, what: 'the child is at work' });
        if (when === 'unreachable') {
          one.drop();
          await two.refuse();
          two.cut();
        }
        child.stdin.write('close\n');
        await until(() => said.includes('closed'), { what: 'the child has closed its client' });
        const { ms } = await timed(exited);
        assert.deepEqual([child.exitCode, child.signalCode], [0, null]);
        assert.ok(ms < 2500, `it took ${ms} ms to exit`);
      });
    }

    for (const then of LOSSES) {
      test(`fault 9: no put is applied twice when its reply is lost (${then})`, async (t) => {
        const scene = new Scene(t, etcd);
        const proxies = [await scene.proxy(), await scene.proxy()];
        const client = scene.client(proxies, { timeoutMs: 1000 });
        await client.kv.get('f9p');
        for (const proxy of proxies) proxy.swallowNextReply({ method: RPC.put, then });
        await assert.rejects(client.kv.put('f9p', 'x'), { code: 'UNKNOWN_OUTCOME' });
        await until(async () => (await scene.direct.kv.get('f9p')) !== undefined);
        assert.equal((await scene.direct.kv.get('f9p'))?.version, 1n);
        assert.equal(
          proxies.reduce((sum, proxy) => sum + proxy.requests(RPC.put), 0),
          1,
        );
        await scene.direct.kv.delete('f9p');
      });
    }
  });
});
