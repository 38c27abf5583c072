import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Client, Election, type Leadership, Mutex, op } from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { assertRising } from '../support/tokens.js';
import { until } from '../support/until.js';
import { exactly, withCode } from './support/rejections.js';
import { keysBelow, Sessions, untilKeysBelow } from './support/sessions.js';

onEachBackend('election', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  test('candidates lead in the order of their campaigns, with greater tokens', async () => {
    await using sessions = new Sessions(client);
    const first = await new Election(await sessions.open(), 'order').campaign('0');
    const campaigns: Promise<Leadership>[] = [];
    for (let n = 1; n < 6; n++) {
      campaigns.push(new Election(await sessions.open(), 'order').campaign(String(n)));
      await untilKeysBelow(client, 'order', n + 1);
    }
    const tokens = [first.fencingToken];
    let leading = first;
    for (const campaign of campaigns) {
      await leading.resign();
      leading = await campaign;
      assert.ok(leading.held);
      assert.ok(leading.fencingToken > (tokens.at(-1) ?? 0n));
      tokens.push(leading.fencingToken);
    }
    await leading.resign();
    assert.deepEqual(await keysBelow(client, 'order'), []);
  });

  test('two tasks of one session lead one after the other, and never with the same token', async () => {
    await using sessions = new Sessions(client);
    const election = new Election(await sessions.open(), 'tasks');
    const tokens = new Set<bigint>();
    let leading = 0;
    await Promise.all(
      Array.from({ length: 10 }, async (_, n) => {
        await using leadership = await election.campaign(String(n));
        assert.equal(++leading, 1);
        tokens.add(leadership.fencingToken);
        await leadership.proclaim(`${n} again`);
        leading -= 1;
      }),
    );
    assert.equal(tokens.size, 10);
  });

  test('leader tells who leads; proclaim changes the value and keeps the leadership', async () => {
    await using sessions = new Sessions(client);
    const election = new Election(await sessions.open(), 'who');
    assert.equal(await election.leader(), undefined);
    const leadership = await election.campaign('first');
    const guard = leadership.guard();
    await leadership.proclaim(Buffer.from('second'));
    const leader = await election.leader();
    assert.deepEqual([leader?.string(), leader?.key], ['second', leadership.key]);
    assert.equal((await client.kv.txn({ if: guard })).succeeded, true);
    await leadership.txn({ then: [op.put('who/x/by-the-leader', '1')] });
    await leadership.resign();
    await leadership.resign();
    await assert.rejects(leadership.proclaim('late'), withCode('NOT_HELD'));
    await assert.rejects(leadership.txn({ then: [] }), withCode('NOT_HELD'));
    assert.equal(await election.leader(), undefined);
    await client.kv.delete('who/x/by-the-leader');
  });

  test('an abort withdraws the candidacy, then rejects with the signal’s own reason', async () => {
    await using sessions = new Sessions(client);
    const leadership = await new Election(await sessions.open(), 'abort').campaign('leads');
    const other = new Election(await sessions.open(), 'abort');
    const abort = new AbortController();
    const campaign = other.campaign('waits', { signal: abort.signal });
    campaign.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'abort', 2);
    abort.abort('enough');
    await assert.rejects(campaign, exactly('enough'));
    assert.deepEqual(await keysBelow(client, 'abort'), [leadership.key]);
    await assert.rejects(other.campaign('waits', { timeoutMs: 50 }), withCode('TIMEOUT'));
    assert.deepEqual(await keysBelow(client, 'abort'), [leadership.key]);
    await leadership.resign();
  });

  test('tryCampaign leads when nobody does, and leaves nothing when somebody does', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const leadership = await new Election(one, 'try').tryCampaign('one');
    assert.ok(leadership?.held);
    assert.equal(await new Election(two, 'try').tryCampaign('two'), undefined);
    assert.equal(await new Election(one, 'try').tryCampaign('one again'), undefined);
    assert.deepEqual(await keysBelow(client, 'try'), [leadership.key]);
    await leadership.resign();
    const next = await new Election(two, 'try').tryCampaign('two', { timeoutMs: 5000 });
    assert.ok(next !== undefined && next.fencingToken > leadership.fencingToken);
    await next.resign();
    await assert.rejects(
      new Election(two, 'try').tryCampaign('two', { signal: AbortSignal.abort('no') }),
      exactly('no'),
    );
    assert.deepEqual(await keysBelow(client, 'try'), []);
  });

  test('a key deleted from outside ends a candidacy and a leadership with TICKET_LOST', async () => {
    await using sessions = new Sessions(client);
    const leadership = await new Election(await sessions.open(), 'gone').campaign('leads');
    const campaign = new Election(await sessions.open(), 'gone').campaign('waits');
    campaign.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'gone', 2);
    const [leader = '', candidate = ''] = await keysBelow(client, 'gone');
    await Promise.all([assert.rejects(campaign, withCode('TICKET_LOST')), client.kv.delete(candidate)]);
    await client.kv.delete(leader);
    await until(() => !leadership.held);
    withCode('TICKET_LOST')(leadership.signal.reason);
    await assert.rejects(leadership.proclaim('still here'), withCode('NOT_HELD'));
    assert.deepEqual(await keysBelow(client, 'gone'), []);
    await leadership.resign();
  });

  test('a candidate whose session is lost never leads', async () => {
    await using sessions = new Sessions(client);
    const leadership = await new Election(await sessions.open(), 'phantom').campaign('leads');
    const session = await sessions.open();
    const campaign = new Election(session, 'phantom').campaign('waits');
    campaign.catch(() => undefined); // It may reject before it is waited for.
    await untilKeysBelow(client, 'phantom', 2);
    const lost = assert.rejects(campaign, withCode('SESSION_LOST'));
    session.leaseIsGone();
    await lost;
    await client.lease.revoke(session.leaseId);
    await leadership.resign();
    assert.deepEqual(await keysBelow(client, 'phantom'), []);
  });

  test('a lock and an election of one name on one session exclude each other', async () => {
    await using sessions = new Sessions(client);
    const session = await sessions.open();
    const mutex = new Mutex(session, 'both');
    const election = new Election(session, 'both');
    const tokens: bigint[] = [];
    let inside = 0;
    const step = async (hold: { fencingToken: bigint; held: boolean }): Promise<void> => {
      assert.equal(++inside, 1);
      tokens.push(hold.fencingToken);
      await client.kv.get('x');
      assert.ok(hold.held);
      inside -= 1;
    };
    await Promise.all(
      Array.from({ length: 24 }, async (_, n) => {
        if (n % 3 === 0) {
          await using leadership = await election.campaign(String(n));
          await step(leadership);
        } else await mutex.run(step);
      }),
    );
    assert.equal(tokens.length, 24);
    assertRising(tokens);
    assert.deepEqual(await keysBelow(client, 'both'), []);
  });

  test('observe yields the leader, each value in order, and undefined for no leader', async () => {
    await using sessions = new Sessions(client);
    const [one, two] = await sessions.many(2);
    assert.ok(one !== undefined && two !== undefined);
    const election = new Election(one, 'watch');
    const values = election.observe();
    const next = async (): Promise<string | undefined> => {
      const result = await values.next();
      assert.equal(result.done, false);
      return result.value?.string();
    };
    assert.equal(await next(), undefined);
    const first = await election.campaign('a');
    assert.equal(await next(), 'a');
    // Made at once: none may be left out.
    await Promise.all(
      ['b', 'c', 'd'].map((value) => client.kv.put(first.key, value, { leaseId: one.leaseId })),
    );
    assert.deepEqual([await next(), await next(), await next()].sort(), ['b', 'c', 'd']);
    const waiting = new Election(two, 'watch').campaign('e');
    await untilKeysBelow(client, 'watch', 2);
    await first.resign();
    assert.equal(await next(), 'e');
    await (await waiting).resign();
    assert.equal(await next(), undefined);
    await values.return?.();
    assert.deepEqual(await values.next(), { done: true, value: undefined });
  });

  test('observe ends with the signal’s reason; a foreign key without a lease does not lead', async () => {
    await using sessions = new Sessions(client);
    await client.kv.put('plain/x', 'not a candidate');
    const election = new Election(await sessions.open(), 'plain');
    assert.equal(await election.leader(), undefined);
    const abort = new AbortController();
    const values = election.observe({ signal: abort.signal });
    assert.deepEqual(await values.next(), { done: false, value: undefined });
    const pending = values.next();
    abort.abort('seen enough');
    await assert.rejects(pending, exactly('seen enough'));
    assert.throws(() => election.observe({ signal: abort.signal }), exactly('seen enough'));
    await client.kv.delete('plain/x');
  });

  test('a hundred values in one batch are all observed, in order', async () => {
    await using sessions = new Sessions(client);
    const election = new Election(await sessions.open(), 'batch');
    const leadership = await election.campaign('-1');
    const seen: string[] = [];
    const observing = (async () => {
      for await (const leader of election.observe()) {
        seen.push(leader?.string() ?? 'nobody');
        if (leader === undefined) return;
      }
    })();
    await until(() => seen.length === 1);
    for (let n = 0; n < 100; n++) await leadership.proclaim(String(n));
    await leadership.resign();
    await observing;
    assert.deepEqual(seen, ['-1', ...[...Array(100).keys()].map(String), 'nobody']);
  });

  test('a leadership is taken on after a restart, by the lease id, with a greater token', async () => {
    await using sessions = new Sessions(client);
    const before = await sessions.open();
    const led = await new Election(before, 'restart').campaign('before');
    const waiting = new Election(await sessions.open(), 'restart').campaign('rival');
    await untilKeysBelow(client, 'restart', 2);
    before.orphan();
    assert.equal(led.held, false);
    const after = await sessions.open({ leaseId: before.leaseId });
    const leads = await new Election(after, 'restart').campaign('after', { timeoutMs: 5000 });
    assert.equal(leads.createRevision, led.createRevision);
    assert.ok(leads.fencingToken > led.fencingToken);
    assert.equal((await new Election(after, 'restart').leader())?.string(), 'after');
    await leads.resign();
    const rival = await waiting;
    assert.ok(rival.fencingToken > leads.fencingToken);
    await rival.resign();
  });
});
