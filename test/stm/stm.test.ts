// stm: what each isolation level promises, what a transaction sees, and how it ends; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Client, hasCode, type Isolation, Session, stm, type StmTransaction } from 'conclave';

import { refusal } from '../contract/support/rejections.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;
const LEVELS: readonly Isolation[] = [
  'serializableSnapshot',
  'serializable',
  'repeatableReads',
  'readCommitted',
];

/** Puts keys for a test, which are removed when it ends. */
async function given(
  t: { after: (end: () => Promise<unknown>) => void },
  client: Client,
  prefix: string,
  values: Record<string, string>,
): Promise<void> {
  t.after(() => client.kv.delete({ prefix }));
  for (const [key, value] of Object.entries(values)) await client.kv.put(`${prefix}${key}`, value);
}

/** Runs a transaction whose first attempt lets `meddle` happen between its reads and its commit. */
async function overtaken<T>(
  client: Client,
  isolation: Isolation,
  work: (tx: StmTransaction) => Promise<T>,
  meddle: () => Promise<unknown>,
): Promise<{ attempts: number; result: T }> {
  let first = true;
  return stm(
    client,
    async (tx) => {
      const result = await work(tx);
      if (first) {
        first = false;
        await meddle();
      }
      return result;
    },
    { isolation },
  );
}

onEachBackend('stm', (backend) => {
  for (const isolation of LEVELS) {
    it(`reads its own writes, and commits all of them at one revision (${isolation})`, async (t) => {
      const client = backend.client();
      await given(t, client, 'own/', { a: '1', b: '2', c: '3' });
      const { revision, result, attempts } = await stm(
        client,
        async (tx) => {
          tx.put('own/a', '10');
          tx.delete('own/b');
          tx.put('own/d', '4');
          assert.equal((await tx.get('own/a'))?.string(), '10');
          assert.equal(await tx.get('own/b'), undefined);
          const listed = await tx.range({ prefix: 'own/' });
          assert.deepEqual(
            listed.map((kv) => `${kv.key}=${kv.string()}`),
            ['own/a=10', 'own/c=3', 'own/d=4'],
          );
          assert.equal((await client.kv.get('own/a'))?.string(), '1', 'nothing is written before the commit');
          return (await tx.rev('own/c')) > 0n && (await tx.rev('own/none')) === 0n;
        },
        { isolation },
      );
      assert.equal(result, true);
      assert.equal(attempts, 1);
      const { kvs } = await client.kv.range({ prefix: 'own/' });
      assert.deepEqual(
        kvs.map((kv) => [kv.key, kv.string()]),
        [
          ['own/a', '10'],
          ['own/c', '3'],
          ['own/d', '4'],
        ],
      );
      assert.equal(kvs[0]?.modRevision, revision);
      assert.equal(kvs[2]?.modRevision, revision);
    });

    it(`answers for each of several keys, whatever was read or written before (${isolation})`, async (t) => {
      const client = backend.client();
      await given(t, client, 'each/', { a: 'A', b: 'B', c: 'C' });
      await stm(
        client,
        async (tx) => {
          await tx.get('each/a');
          tx.put('each/c', 'mine');
          const found = await tx.get(['each/b', 'each/a', 'each/none', 'each/c', 'each/b']);
          assert.deepEqual(
            found.map((kv) => kv?.string()),
            ['B', 'A', undefined, 'mine', 'B'],
          );
        },
        { isolation },
      );
    });

    it(`stops at what the function throws, and writes nothing (${isolation})`, async () => {
      const client = backend.client();
      const failing = stm(
        client,
        async (tx) => {
          await tx.get('stop/a');
          tx.put('stop/a', '1');
          throw new Error('no money');
        },
        { isolation },
      );
      failing.catch(() => undefined); // It may reject before it is waited for.
      await assert.rejects(failing, /no money/);
      assert.equal(await client.kv.get('stop/a'), undefined);
    });

    const lostUpdate = isolation === 'readCommitted';
    it(`${lostUpdate ? 'may lose' : 'never loses'} an update of a key it has read (${isolation})`, async (t) => {
      const client = backend.client();
      await given(t, client, 'lost/', { n: '1' });
      const add = async (tx: StmTransaction): Promise<void> => {
        tx.put('lost/n', String(Number((await tx.get('lost/n'))?.string()) + 1));
      };
      const { attempts } = await overtaken(client, isolation, add, async () =>
        client.kv.put('lost/n', '100'),
      );
      assert.equal((await client.kv.get('lost/n'))?.string(), lostUpdate ? '2' : '101');
      assert.equal(attempts, lostUpdate ? 1 : 2);
    });

    const oneRevision = isolation === 'serializableSnapshot' || isolation === 'serializable';
    it(`reads ${oneRevision ? 'all keys at one revision' : 'each key as it is when read'} (${isolation})`, async (t) => {
      const client = backend.client();
      await given(t, client, 'skew/', { a: '1', b: '1' });
      let read: (string | undefined)[] = [];
      let first = true;
      await stm(
        client,
        async (tx) => {
          const a = await tx.get('skew/a');
          if (first) await client.kv.txn({ then: [] }).then(async () => client.kv.put('skew/b', '2'));
          const again = await tx.get('skew/a');
          if (first) read = [a?.string(), (await tx.get('skew/b'))?.string(), again?.string()];
          first = false;
        },
        { isolation },
      );
      assert.deepEqual(read, ['1', oneRevision ? '1' : '2', '1']);
    });

    const phantomSafe = oneRevision;
    it(`${phantomSafe ? 'is kept from' : 'may miss'} keys that come into a range it has read (${isolation})`, async (t) => {
      const client = backend.client();
      await given(t, client, 'range/', { 'x/1': '1' });
      const count = async (tx: StmTransaction): Promise<number> => {
        const { length } = await tx.range({ prefix: 'range/x/' });
        tx.put('range/count', String(length));
        return length;
      };
      const { result } = await overtaken(client, isolation, count, async () =>
        client.kv.put('range/x/2', '2'),
      );
      assert.equal(result, phantomSafe ? 2 : 1);
      const { attempts } = await overtaken(client, isolation, count, async () =>
        client.kv.delete('range/x/1'),
      );
      assert.equal(attempts, isolation === 'readCommitted' ? 1 : 2, 'a key of the range was deleted');
    });

    const guardsWrites = isolation === 'serializableSnapshot';
    it(`${guardsWrites ? 'notices' : 'does not mind'} that a key it only writes has changed (${isolation})`, async (t) => {
      const client = backend.client();
      await given(t, client, 'blind/', { a: '1', b: '1' });
      const work = async (tx: StmTransaction): Promise<void> => {
        await tx.get('blind/a');
        tx.put('blind/b', 'mine');
      };
      const { attempts } = await overtaken(client, isolation, work, async () =>
        client.kv.put('blind/b', 'theirs'),
      );
      assert.equal(attempts, guardsWrites ? 2 : 1);
      assert.equal((await client.kv.get('blind/b'))?.string(), 'mine');
    });
  }

  it('pins its reads with the first of several at once, and with rev', async (t) => {
    const client = backend.client();
    await given(t, client, 'pin/', { a: '1', b: '1' });
    const { attempts } = await stm(client, async (tx) => {
      const [a, rev, all] = await Promise.all([
        tx.get('pin/a'),
        tx.rev('pin/b'),
        tx.range({ prefix: 'pin/' }),
      ]);
      assert.equal(all.length, 2);
      assert.equal(all[1]?.modRevision, rev);
      assert.equal(all[0]?.modRevision, a?.modRevision);
    });
    assert.equal(attempts, 1);
  });

  it('reads and writes keys that are not text, with prefetch', async () => {
    const client = backend.client();
    const key = Uint8Array.of(0xff, 0x00, 0x80);
    await stm(client, async (tx) => tx.put(key, Uint8Array.of(1, 2, 3)));
    const { result } = await stm(
      client,
      async (tx) => {
        const value = (await tx.get(key))?.value;
        tx.delete(key);
        return value;
      },
      { prefetch: [key] },
    );
    assert.deepEqual(result, Buffer.of(1, 2, 3));
    assert.equal(await client.kv.get(key), undefined);
  });

  it('binds what it writes to a lease', async () => {
    const session = await Session.open(backend.client(), { ttlSeconds: 5 });
    await stm(session.client, async (tx) => tx.put('leased', 'x', { leaseId: session.leaseId }));
    assert.equal((await session.client.kv.get('leased'))?.leaseId, session.leaseId);
    await session.close();
    const gone = stm(session.client, async (tx) => tx.put('leased', 'x', { leaseId: session.leaseId }));
    await assert.rejects(gone, coded('LEASE_NOT_FOUND'));
    assert.equal(await session.client.kv.get('leased'), undefined);
  });

  it('says CONFLICT with the key and the attempts when these run out', async (t) => {
    const client = backend.client();
    await given(t, client, 'busy/', { a: '0' });
    let ran = 0;
    const losing = stm(
      client,
      async (tx) => {
        ran += 1;
        await tx.get('busy/a');
        await client.kv.put('busy/a', String(ran));
        tx.put('busy/a', 'never');
      },
      { maxAttempts: 3 },
    );
    losing.catch(() => undefined); // It may reject before it is waited for.
    await assert.rejects(losing, (error) => {
      assert.ok(hasCode(error, 'CONFLICT'));
      assert.equal(error.key, 'busy/a');
      assert.match(error.message, /3 attempts/);
      return true;
    });
    assert.equal(ran, 3);
    assert.equal((await client.kv.get('busy/a'))?.string(), '3');
  });

  it('names the phantom when a range was in its way', async (t) => {
    const client = backend.client();
    await given(t, client, 'phantom/', { a: '0' });
    const losing = stm(
      client,
      async (tx) => {
        await tx.range({ prefix: 'phantom/' });
        await client.kv.put('phantom/new', 'x');
        tx.put('elsewhere', 'never');
      },
      { maxAttempts: 1 },
    );
    losing.catch(() => undefined); // It may reject before it is waited for.
    await assert.rejects(losing, (error) => hasCode(error, 'CONFLICT') && error.key === 'phantom/new');
    assert.equal(await client.kv.get('elsewhere'), undefined);
  });

  it('refuses more than one transaction holds, before it is sent', async () => {
    const client = backend.client();
    const tooMany = stm(client, async (tx) => {
      for (let at = 0; at < 128; at++) tx.put(`much/${at}`, 'x');
    });
    await assert.rejects(tooMany, coded('TOO_MANY_OPS'));
    assert.equal((await client.kv.range({ prefix: 'much/' })).count, 0n);
    await stm(client, async (tx) => {
      for (let at = 0; at < 127; at++) tx.put(`much/${at}`, 'x');
    });
    // Reads alone are no matter of the commit, however many.
    const keys = Array.from({ length: 300 }, (_, at) => `much/${at}`);
    const { result } = await stm(client, async (tx) => (await tx.get(keys)).filter(Boolean).length);
    assert.equal(result, 127);
    await client.kv.delete({ prefix: 'much/' });
  });

  it('begins again when its revision is compacted under it', async (t) => {
    const client = backend.client();
    await given(t, client, 'compact/', { a: '1', b: '1' });
    let first = true;
    const { attempts } = await stm(client, async (tx) => {
      await tx.get('compact/a');
      if (first) {
        first = false;
        const { revision } = await client.kv.put('compact/b', '2');
        await client.kv.compact(revision);
      }
      // Whatever the function makes of the error, what it stood on is gone.
      const b = await tx.get('compact/b').catch(() => undefined);
      tx.put('compact/c', b?.string() ?? 'lost');
    });
    assert.equal(attempts, 2);
    assert.equal((await client.kv.get('compact/c'))?.string(), '2');
  });

  it('ends with its signal, and its tx with its function', async () => {
    const client = backend.client();
    const stop = new AbortController();
    const aborted = stm(
      client,
      async (tx) => {
        await tx.get('sig/a');
        tx.put('sig/a', '1');
        stop.abort(new Error('that will do'));
      },
      { signal: stop.signal },
    );
    aborted.catch(() => undefined); // It may reject before it is waited for.
    await assert.rejects(aborted, /that will do/);
    assert.equal(await client.kv.get('sig/a'), undefined);
    let kept: StmTransaction | undefined;
    await stm(client, async (tx) => {
      kept = tx;
    });
    assert.throws(() => kept?.put('sig/a', '1'), coded('CLOSED'));
    await assert.rejects(async () => kept?.get('sig/a'), coded('CLOSED'));
  });

  it('refuses bad input before any request, by name and value', async () => {
    const client = backend.client();
    let runs = 0;
    const work = async (): Promise<number> => ++runs;
    const wrong = <T>(value: unknown): T => value as T;
    const options: readonly (readonly [unknown, ...string[]])[] = [
      [{ isolation: 'strict' }, 'isolation', 'serializable', '"strict"'],
      [{ isolation: 5n }, 'isolation', 'not 5'],
      [{ isolation: null }, 'isolation', 'not null'],
      [{ maxAttempts: 0 }, 'maxAttempts', '0'],
      [{ maxAttempts: 1.5 }, 'maxAttempts', '1.5'],
      [{ maxTxnOps: 1 }, 'maxTxnOps', '1'],
      [{ prefetch: 'accounts/ann' }, 'prefetch', 'array', '"accounts/ann"'],
      [{ prefetch: [''] }, 'prefetch[0]', 'empty'],
      [{ prefetch: ['a', 7] }, 'prefetch[1]', '7'],
      [{ records: '' }, 'records', '""'],
      [{ records: true }, 'records', 'true'],
      [{ signal: 'stop' }, 'signal', '"stop"'],
      [{ tries: 3 }, '"tries"', 'maxAttempts'],
    ];
    for (const [given, ...parts] of options)
      await assert.rejects(stm(client, work, wrong(given)), refusal(...parts));
    await assert.rejects(stm(client, wrong(undefined)), refusal('work', 'function', 'undefined'));
    await assert.rejects(stm(client, wrong({ isolation: 'serializable' })), refusal('work', 'Object'));
    assert.equal(runs, 0);
    const puts: readonly ((tx: StmTransaction) => void)[] = [
      (tx) => tx.put('', 'x'),
      (tx) => tx.put('x', wrong(1)),
      (tx) => tx.put('x', 'y', { leaseId: wrong(7) }),
      (tx) => tx.put('x', 'y', wrong({ lease: 7n })),
    ];
    for (const put of puts) await assert.rejects(stm(client, put), refusal());
    const naming = (what: RegExp) => (error: unknown) =>
      error instanceof TypeError && what.test(error.message);
    const signal = wrong<AbortSignal>({ aborted: true });
    await assert.rejects(stm(wrong(null), work), naming(/stm's client.*null/));
    await assert.rejects(stm(client, wrong(null)), naming(/stm's work.*null/));
    await assert.rejects(stm(client, work, { signal }), naming(/signal must be an AbortSignal/));
    await assert.rejects(stm(client, work, { prefetch: wrong('abc') }), naming(/prefetch/));
    await assert.rejects(stm(client, work, { maxAttempts: wrong(null) }), naming(/maxAttempts/));
    await assert.rejects(stm(client, work, { records: '\ud800' }), naming(/lone surrogate/));
    for (const use of [
      (tx: StmTransaction) => tx.put('x', 'y', wrong({ lease: 5n })),
      (tx: StmTransaction) => tx.put('x', 'y', { leaseId: wrong(5) }),
      (tx: StmTransaction) => tx.put('x\ud800', 'y'),
      (tx: StmTransaction) => tx.delete('\udfff'),
      (tx: StmTransaction) => tx.get(['x', '\udfff']),
      (tx: StmTransaction) => tx.range({ prefix: 'x\ud800' }),
    ]) {
      const using = async (tx: StmTransaction): Promise<unknown> => use(tx);
      await assert.rejects(stm(client, using), naming(/unknown option "lease"|leaseId|lone surrogate/));
    }
  });

  it('takes keys and values as they are when it is called', async (t) => {
    const client = backend.client();
    t.after(() => client.kv.delete({ prefix: 'taken/' }));
    let attempts = 0;
    await stm(client, async (tx) => {
      const key = Buffer.from('taken/a');
      const value = Buffer.from('1');
      const prefix = Buffer.from('taken/b/');
      tx.put(key, value);
      await tx.range({ prefix });
      for (const bytes of [key, value, prefix]) bytes.fill('x');
      // Something new in the range is a conflict, whatever has become of the caller's bytes.
      if (++attempts === 1) await client.kv.put('taken/b/new', '');
    });
    assert.equal(attempts, 2);
    assert.equal((await client.kv.get('taken/a'))?.string(), '1');
  });

  it('adds up when many count at once', async () => {
    const clients = [1, 2, 3].map(() => backend.client());
    const add = async (client: Client): Promise<unknown> =>
      stm(client, async (tx) => {
        tx.put('sum', String(Number((await tx.get('sum'))?.string() ?? 0) + 1));
      });
    await Promise.all(
      clients.flatMap((client) =>
        Array.from({ length: 4 }, async () => {
          for (let round = 0; round < 8; round++) await add(client);
        }),
      ),
    );
    const [client] = clients as [Client, ...Client[]];
    assert.equal((await client.kv.get('sum'))?.string(), '96');
    await client.kv.delete('sum');
  });

  it('removes the records of its commits when the client is closed', async () => {
    const client = backend.client();
    await until(async () => (await client.lease.list()).length === 0, { what: 'no lease of earlier tests' });
    const own = new Client({ endpoints: backend.endpoints });
    await stm(own, async (tx) => tx.put('closed', '1'));
    assert.equal((await client.kv.range({ prefix: 'conclave/stm/' })).count > 0n, true);
    await own.close();
    assert.deepEqual(await client.lease.list(), []);
    assert.equal((await client.kv.range({ prefix: 'conclave/stm/' })).count, 0n);
    await assert.rejects(own.kv.get('closed'), coded('CLOSED'));
    await client.kv.delete('closed');
  });

  it('removes the records of its commits shortly after the last one', async () => {
    const client = backend.client();
    await stm(client, async (tx) => tx.put('recorded', '1'));
    assert.equal((await client.kv.range({ prefix: 'conclave/stm/' })).count > 0n, true);
    await until(async () => (await client.lease.list()).length === 0, { what: 'all leases are revoked' });
    assert.equal((await client.kv.range({ prefix: 'conclave/stm/' })).count, 0n);
    await client.kv.delete('recorded');
  });
});
