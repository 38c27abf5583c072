import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { it } from 'node:test';

import { Election, type LineEntry, MultiMutex, Mutex, RWLock, Semaphore, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { worldsOf } from '../support/world.js';

onEachBackend('inspect', (backend) => {
  const newWorld = worldsOf(backend, 'inspect');

  function assertOurs(entry: LineEntry | undefined, session: Session): void {
    assert.ok(entry);
    assert.equal(entry.leaseId, session.leaseId);
    assert.equal(entry.foreign, false);
    assert.equal(entry.host, hostname());
    assert.equal(entry.pid, process.pid);
    assert.equal(entry.label, session.label);
    const ageMs = Date.now() - Date.parse(entry.since ?? '');
    assert.ok(ageMs >= 0 && ageMs < 60_000, `since ${entry.since}`);
  }

  it('shows who holds a mutex and who waits in what order, foreign keys too', async () => {
    await using world = await newWorld(2);
    const labelled = await Session.open(world.client, { label: 'worker 7' });
    const mutex = new Mutex(world.session(0), world.name);
    assert.deepEqual((await mutex.inspect()).holders, []);
    const lock = await mutex.lock();
    const waiting = new Mutex(labelled, world.name).lock();
    await world.untilKeys(2);
    // As Go's client and etcdctl write it, and as somebody may who knows no better.
    const other = world.session(1).leaseId;
    await world.client.kv.put(`${world.name}/${other.toString(16)}`, '', { leaseId: other });
    await world.client.kv.put(`${world.name}/odd`, '{"host":7,"pid":"x"}', { leaseId: other });
    const { holders, waiters } = await mutex.inspect();
    assert.equal(holders.length, 1);
    assertOurs(holders[0], world.session(0));
    assert.equal(holders[0]?.key, lock.key);
    assert.equal(holders[0].createRevision, lock.createRevision);
    assertOurs(waiters[0], labelled);
    assert.deepEqual(waiters.slice(1), [
      {
        createRevision: waiters[1]?.createRevision,
        foreign: true,
        key: `${world.name}/${other.toString(16)}`,
        leaseId: other,
      },
      {
        createRevision: waiters[2]?.createRevision,
        foreign: true,
        key: `${world.name}/odd`,
        leaseId: other,
        // What is not as we write it is left out.
      },
    ]);
    await lock.unlock();
    await (await waiting).unlock();
    await labelled.close();
  });

  it('shows readers and writers of a read-write lock with their mode', async () => {
    await using world = await newWorld(3);
    const [a, b, c] = world.sessions.map((session) => new RWLock(session, world.name)) as [
      RWLock,
      RWLock,
      RWLock,
    ];
    const reads = [await a.readLock(), await b.readLock()];
    const writing = c.writeLock();
    await world.untilKeys(3);
    const late = a.readLock();
    await world.untilKeys(4);
    const { holders, waiters } = await a.inspect();
    assert.deepEqual(
      holders.map((entry) => entry.mode),
      ['read', 'read'],
    );
    assertOurs(holders[1], world.session(1));
    assert.deepEqual(
      waiters.map((entry) => entry.mode),
      ['write', 'read'],
    );
    await Promise.all(reads.map((lock) => lock.unlock()));
    await (await writing).unlock();
    await (await late).unlock();
  });

  it('shows the limit of a semaphore, and weights', async () => {
    await using world = await newWorld(1);
    const semaphore = new Semaphore(world.session(0), world.name, { limit: 3 });
    assert.equal((await semaphore.inspect()).limit, undefined);
    const permit = await semaphore.acquire({ weight: 2 });
    const waiting = semaphore.acquire({ weight: 3 });
    await world.untilKeys(3);
    const { holders, waiters, limit } = await semaphore.inspect();
    assert.equal(limit, 3);
    assert.deepEqual(
      [...holders, ...waiters].map((entry) => entry.weight),
      [2, 3],
    );
    assertOurs(waiters[0], world.session(0));
    await permit.release();
    await (await waiting).release();
  });

  it('shows each line of a multi-mutex at one revision', async () => {
    await using world = await newWorld(2);
    const names = [`${world.name}/a`, `${world.name}/b`];
    const multi = new MultiMutex(world.session(0), names);
    const plain = await new Mutex(world.session(1), names[1] ?? '').lock();
    const locking = multi.lock();
    await world.untilKeys(3);
    const report = await multi.inspect();
    assertOurs(report.get(names[0] ?? '')?.holders[0], world.session(0));
    assertOurs(report.get(names[1] ?? '')?.holders[0], world.session(1));
    assertOurs(report.get(names[1] ?? '')?.waiters[0], world.session(0));
    await plain.unlock();
    await (await locking).unlock();
  });

  it('shows the leader and the candidates of an election, whose values stay the caller’s', async () => {
    await using world = await newWorld(3);
    const elections = world.sessions.map((session) => new Election(session, world.name));
    const leadership = (await elections[0]?.campaign('first')) ?? assert.fail();
    const second = elections[1]?.campaign('second') ?? assert.fail();
    await world.untilKeys(4); // each candidate's key and the note of who it is
    const other = world.session(2).leaseId;
    await world.client.kv.put(`${world.name}/${other.toString(16)}`, 'go', { leaseId: other });
    const { holders, waiters } = (await elections[2]?.inspect()) ?? assert.fail();
    assertOurs(holders[0], world.session(0));
    assertOurs(waiters[0], world.session(1));
    assert.equal(waiters[1]?.foreign, true);
    assert.deepEqual(
      [...holders, ...waiters].map((entry) => entry.value.toString()),
      ['first', 'second', 'go'],
    );
    await leadership.proclaim('first, later');
    const later = (await elections[2]?.inspect())?.holders[0];
    assert.equal(later?.value.toString(), 'first, later');
    assertOurs(later, world.session(0));
    await leadership.resign();
    const next = await second;
    await world.client.kv.delete(next.key); // Removed from outside: the note goes with the release.
    await next.resign();
    assert.equal(await world.keys(), 1);
  });
});
