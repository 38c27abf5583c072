import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Election, Mutex, RWLock, Session } from 'conclave';
import { heldAt, heldWhen, readHistory } from '#conclave/look/history.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const { signal } = new AbortController();

onEachBackend('history', (backend) => {
  it('tells who held a lock from which token to which revision, and how each term ended', async () => {
    const client = backend.client();
    await using two = await Session.open(client, { label: 'two' });
    const first = await Session.open(client, { label: 'one' });
    const tokens: bigint[] = [];
    {
      const mutex = new Mutex(first, 'past');
      const held = await mutex.lock();
      tokens.push(held.fencingToken);
      await held.unlock();
      const again = await mutex.lock();
      tokens.push(again.fencingToken);
    }
    const other = new Mutex(two, 'past');
    const waiting = other.lock();
    await until(async () => (await other.inspect()).waiters.length === 1);
    // Its lease ends, and what it holds with it.
    await first.close();
    const handed = await waiting;
    tokens.push(handed.fencingToken);

    const history = await readHistory(client, 'past', signal);
    assert.deepEqual([history.kind, history.complete, history.since], ['lock', true, '0']);
    assert.deepEqual(
      history.terms.map(({ ended, holder, token }) => [holder.label, token, ended]),
      [
        ['one', String(tokens[0]), 'released'],
        ['one', String(tokens[1]), 'lease ended'],
        ['two', String(tokens[2]), undefined],
      ],
    );
    const [a, b, c] = history.terms;
    assert.ok(a?.until !== undefined && b?.token !== undefined && BigInt(a.until) < BigInt(b.token));
    assert.equal(b.until, c?.token);
    // Who asked and got it at once has written when.
    assert.equal(a.began.after, a.holder.since);
    assert.deepEqual(heldAt(history, BigInt(a.until)), []);
    assert.deepEqual(heldAt(history, tokens[1] ?? 0n), [b]);
    assert.equal(heldAt(history, BigInt(history.until) + 1n), undefined);
    const certain = heldWhen(history, new Date(Date.now() + 1000)).map(({ term }) => term.holder.label);
    assert.deepEqual(certain, ['two']);
    assert.deepEqual(heldWhen(history, new Date(0)), []);
    await handed.unlock();
  });

  it('begins where history is compacted, with who held then; and has what leaders said', async () => {
    const client = backend.client();
    await using session = await Session.open(client, { label: 'one' });
    const election = new Election(session, 'terms');
    const led = await election.campaign('a');
    await led.resign();
    const leads = await election.campaign('b');
    const { revision } = await client.kv.range('terms');
    await client.kv.compact(revision);
    await leads.proclaim('c');

    const history = await readHistory(client, 'terms', signal);
    assert.deepEqual([history.kind, history.complete, history.since], ['election', true, String(revision)]);
    assert.deepEqual(
      history.terms.map(({ holder, token, until: end, values }) => [holder.label, token, end, values]),
      [['one', undefined, undefined, ['b', 'c']]],
    );
    assert.equal(heldAt(history, revision - 1n), undefined);
    assert.equal(heldAt(history, revision)?.length, 1);
    await leads.resign();
  });

  // A thousand writes take a second or two: it is etcd's messages that are counted.
  if (backend.kind === 'etcd')
    it('goes through more history than etcd puts into one message, and knows that it has all of it', async () => {
      const client = backend.client();
      const { id } = await client.lease.grant(60);
      const key = `long/${id.toString(16)}`;
      for (let n = 0; n < 1100; n += 100) {
        await Promise.all([...Array(100).keys()].map(() => client.kv.put(key, '', { leaseId: id })));
      }
      await client.lease.revoke(id);
      await using session = await Session.open(client);
      const reader = await new RWLock(session, 'long').readLock();
      await reader.unlock();
      const history = await readHistory(client, 'long', signal);
      assert.equal(history.complete, true);
      assert.deepEqual(
        history.terms.map(({ holder }) => holder.foreign),
        [true, false],
      );
      assert.equal((await readHistory(client, 'never', signal)).complete, false);
    });
});
