/** The primitives in namespaces: the same names in two of them have nothing to do with each other. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  Barrier,
  type Client,
  Election,
  JobQueue,
  Latch,
  MultiMutex,
  Mutex,
  RWLock,
  Semaphore,
  Session,
  stm,
} from 'conclave';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

onEachBackend('primitives in namespaces', (backend) => {
  let client: Client;
  before(() => {
    client = backend.client();
  });

  /** Two namespaces, one of which is within the other, on one session each. */
  async function twoSessions() {
    const outer = client.namespace('app/');
    const clients = [outer, outer.namespace('in/')] as const;
    const sessions = await Promise.all(clients.map((each) => Session.open(each, { ttlSeconds: 20 })));
    return {
      clients,
      sessions: sessions as unknown as readonly [Session, Session],
      [Symbol.asyncDispose]: async () => {
        await Promise.all(sessions.map((session) => session.close()));
      },
    };
  }

  test('locks exclude each other in one namespace only, and end their waits there', async () => {
    await using two = await twoSessions();
    const [one, other] = two.sessions;
    const locks = {
      MultiMutex: (session: Session) => new MultiMutex(session, ['x', 'y']).tryLock(),
      Mutex: (session: Session) => new Mutex(session, 'x').tryLock(),
      RWLock: (session: Session) => new RWLock(session, 'x').tryWriteLock(),
      Semaphore: async (session: Session) => {
        const permit = await new Semaphore(session, 'x', { limit: 1 }).tryAcquire();
        return permit && { held: permit.held, unlock: () => permit.release() };
      },
    };
    for (const [name, tryLock] of Object.entries(locks)) {
      const mine = await tryLock(one);
      const theirs = await tryLock(other);
      assert.ok(mine?.held === true && theirs?.held === true, name);
      await using again = await Session.open(client.namespace('app/'));
      assert.equal(await tryLock(again), undefined, name);
      await Promise.all([mine.unlock(), theirs.unlock()]);
    }
    await new Semaphore(one, 'x', { limit: 1 }).delete();
    await new Semaphore(other, 'x', { limit: 1 }).delete();

    const held = await new Mutex(one, 'turns').lock();
    await using third = await Session.open(client.namespace('app/').namespace('in/'));
    const theirs = await new Mutex(other, 'turns').lock();
    const next = new Mutex(third, 'turns').lock();
    await until(async () => (await new Mutex(other, 'turns').inspect()).waiters.length === 1);
    assert.equal((await new Mutex(one, 'turns').inspect()).waiters.length, 0);
    await theirs.unlock();
    const lock = await next;
    assert.ok(lock.fencingToken > theirs.fencingToken && held.held);
    await Promise.all([lock.unlock(), held.unlock()]);
  });

  test('elections have a leader each, whom nobody observes in the other', async () => {
    await using two = await twoSessions();
    const [one, other] = two.sessions.map((session) => new Election(session, 'boss')) as [Election, Election];
    const leadership = await one.campaign('one');
    assert.equal((await one.leader())?.string(), 'one');
    assert.equal(await other.leader(), undefined);
    const observed = other.observe();
    assert.equal((await observed.next()).value, undefined);
    const theirs = await other.campaign('other');
    assert.equal((await observed.next()).value?.string(), 'other');
    await observed.return?.();
    await leadership.resign();
    assert.deepEqual([await one.leader(), (await other.leader())?.string()], [undefined, 'other']);
    await theirs.resign();
  });

  test('queues have jobs of their own', async () => {
    await using two = await twoSessions();
    const queues = two.sessions.map((session) => new JobQueue<string>(session, 'mails')) as [
      JobQueue<string>,
      JobQueue<string>,
    ];
    await Promise.all([queues[0].push('one'), queues[1].push('other')]);
    const jobs = await Promise.all(queues.map((queue) => queue.dequeue({ timeoutMs: 5000 })));
    assert.deepEqual(
      jobs.map(({ data }) => data),
      ['one', 'other'],
    );
    for (const queue of queues) assert.equal((await queue.counts()).waiting, 0);
    await Promise.all(jobs.map((job) => job.ack()));
    await Promise.all(queues.map((queue) => queue.close()));
  });

  test('stm, latches and barriers see the keys of their own', async () => {
    await using two = await twoSessions();
    const add = async (of: Client, more: number): Promise<number> => {
      const { result } = await stm(of, async (tx) => {
        const count = Number((await tx.get('count'))?.string() ?? 0) + more;
        tx.put('count', String(count));
        return count;
      });
      return result;
    };
    const [one, other] = two.clients;
    assert.deepEqual([await add(one, 1), await add(other, 10), await add(one, 1)], [1, 10, 2]);
    for (const of of two.clients) await of.kv.delete('count');

    const latches = two.clients.map((of) => new Latch(of, 'ready', { count: 1 })) as [Latch, Latch];
    await latches[0].countDown();
    await latches[0].wait();
    await assert.rejects(latches[1].wait({ timeoutMs: 100 }), { code: 'TIMEOUT' });
    await Promise.all(latches.map((latch) => latch.delete()));

    const hold = await new Barrier(two.sessions[0], 'gate').hold();
    await new Barrier(two.sessions[1], 'gate').wait();
    await assert.rejects(new Barrier(two.sessions[0], 'gate').wait({ timeoutMs: 100 }), { code: 'TIMEOUT' });
    await hold.release();
  });
});
