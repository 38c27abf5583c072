/** What locks, elections and barriers refuse before any request: by name and value, with TypeError or RangeError. */
import { before, describe, test } from 'node:test';
import {
  Barrier,
  DoubleBarrier,
  Election,
  JobQueue,
  Latch,
  LockManager,
  MultiMutex,
  Mutex,
  RWLock,
  Semaphore,
  Session,
} from 'conclave';
import { badInput, wrong } from './support/bad-input.js';

describe('bad input of locks', () => {
  const input = badInput();
  const { refuse } = input;
  let session: Session;
  before(() => {
    session = input.session;
  });

  test('no name of anything has a segment below which the keys of others are', async () => {
    for (const segment of ['.barrier', '.double-barrier', '.latch', '.once', '.queue']) {
      for (const name of [segment, `a/${segment}`, `${segment}/a`, `a/${segment}/todo`]) {
        const makers = [
          () => new Mutex(session, name),
          () => new MultiMutex(session, ['fine', name]),
          () => new RWLock(session, name),
          () => new Semaphore(session, name, { limit: 1 }),
          () => new LockManager(session, { prefix: name }),
          () => new Election(session, name),
          () => new Barrier(session, name),
          () => new DoubleBarrier(session, name, { count: 1 }),
          () => new Latch(session, name, { count: 1 }),
          () => new JobQueue(session, name),
        ];
        await refuse(makers.map((make) => [make, `the segment ${segment},`]));
      }
      // What only looks like one is a name.
      new Mutex(session, `a/${segment}s`);
      new JobQueue(session, `a${segment}`);
    }
  });

  test('locks and elections', async () => {
    const mutex = new Mutex(session, 'fine');
    const election = new Election(session, 'fine');
    await refuse([
      [() => new Mutex(session, ''), 'name', 'empty'],
      [() => new Mutex(session, 'a\0b'), 'NUL'],
      [() => new Mutex(session, wrong(7)), '7'],
      [() => new Election(session, ''), 'name', 'empty'],
      [() => new Election(session, '\0'), 'NUL'],
      [() => mutex.lock(wrong({ timeout: 5 })), '"timeout"', 'timeoutMs'],
      [() => mutex.lock(wrong(5000)), 'options', '5000'],
      [() => mutex.lock({ timeoutMs: -1 }), 'timeoutMs', '-1'],
      [() => mutex.lock({ timeoutMs: Number.NaN }), 'NaN'],
      [() => mutex.lock({ signal: wrong(new AbortController()) }), 'signal'],
      [() => mutex.tryLock(wrong({ wait: 5 })), '"wait"'],
      [() => mutex.run(() => 1, wrong({ ttl: 5 })), '"ttl"'],
      [() => election.campaign(wrong({ name: 'me' })), 'value'],
      [() => election.campaign('me', wrong({ ttl: 5 })), '"ttl"'],
      [() => election.tryCampaign(wrong(undefined)), 'value'],
      [() => election.run(wrong(undefined), () => 1), 'value'],
      [() => election.run('me', () => 1, { timeoutMs: -1 }), 'timeoutMs', '-1'],
      [() => election.observe(wrong({ timeoutMs: 5 })), 'timeoutMs', 'signal'],
    ]);
  });

  test('barriers and latches', async () => {
    const barrier = new Barrier(session, 'fine');
    const double = new DoubleBarrier(session, 'fine', { count: 2 });
    const latch = new Latch(session, 'fine', { count: 2 });
    const timeout = wrong<object>({ timeout: 5 });
    await refuse([
      [() => barrier.hold(timeout), 'Barrier.hold', '"timeout"', 'timeoutMs'],
      [() => barrier.hold({ ifHolderDies: wrong('burn') }), 'ifHolderDies', '"burn"'],
      [() => barrier.wait(timeout), 'wait', '"timeout"', 'timeoutMs'],
      [() => double.enter(timeout), 'enter', '"timeout"', 'timeoutMs'],
      [() => double.leave(timeout), 'leave', '"timeout"', 'timeoutMs'],
      [() => new DoubleBarrier(session, 'fine', wrong({ count: 2, size: 2 })), '"size"', 'count'],
      [() => new DoubleBarrier(session, 'fine', { count: 0 }), 'count', '0'],
      [() => latch.countDown(1, timeout), 'countDown', '"timeout"', 'timeoutMs'],
      [() => latch.countDown(0), '0'],
      [() => latch.wait(timeout), 'wait', '"timeout"', 'timeoutMs'],
      [() => new Latch(session, 'fine', wrong({ count: 2, size: 2 })), '"size"', 'count'],
      [() => barrier.wait(wrong(5000)), 'options', '5000'],
      [() => latch.wait(wrong(null)), 'options', 'null'],
    ]);
  });

  test('the other locks', async () => {
    const rw = new RWLock(session, 'fine');
    const semaphore = new Semaphore(session, 'fine', { limit: 2 });
    const multi = new MultiMutex(session, ['fine']);
    const locks = new LockManager(session);
    const timeout = wrong<object>({ timeout: 5 });
    await refuse([
      [() => rw.readLock(timeout), 'readLock', '"timeout"', 'timeoutMs'],
      [() => rw.writeLock(timeout), 'writeLock', '"timeout"'],
      [() => rw.tryReadLock(timeout), '"timeout"'],
      [() => rw.read(() => 1, timeout), '"timeout"'],
      [() => semaphore.acquire(timeout), 'acquire', '"timeout"', 'weight'],
      [() => semaphore.tryAcquire(timeout), 'tryAcquire', '"timeout"'],
      [() => new Semaphore(session, 'fine', wrong({ limit: 2, size: 2 })), '"size"', 'limit'],
      [() => multi.lock(timeout), 'lock', '"timeout"'],
      [() => multi.tryLock(timeout), 'tryLock', '"timeout"'],
      [() => locks.request('fine', timeout, () => 1), 'request', '"timeout"', 'ifAvailable'],
      [() => new LockManager(session, wrong({ name: 'x' })), '"name"', 'prefix'],
    ]);
  });

  test('every primitive says whose session, and which name, it cannot work with', async () => {
    type Make = (session: Session, name: string) => unknown;
    const makes: Readonly<Record<string, Make>> = {
      "a barrier's": (on, name) => new Barrier(on, name),
      "a double barrier's": (on, name) => new DoubleBarrier(on, name, { count: 2 }),
      "a latch's": (on, name) => new Latch(on, name, { count: 2 }),
      "a lock manager's": (on, prefix) => new LockManager(on, { prefix }),
      "a multi-mutex's": (on, name) => new MultiMutex(on, ['fine', name]),
      "a mutex's": (on, name) => new Mutex(on, name),
      "a queue's": (on, name) => new JobQueue(on, name),
      "a read-write lock's": (on, name) => new RWLock(on, name),
      "a semaphore's": (on, name) => new Semaphore(on, name, { limit: 2 }),
      "an election's": (on, name) => new Election(on, name),
    };
    for (const [whose, make] of Object.entries(makes)) {
      await refuse([
        [() => make(wrong(null), 'x'), `${whose} session must be a`, 'Session', 'not null'],
        [() => make(wrong(undefined), 'x'), `${whose} session`, 'not undefined'],
        [() => make(wrong('session'), 'x'), `${whose} session`, '"session"'],
        [() => make(wrong({ leaseId: 1n }), 'x'), `${whose} session`, 'not [object Object]'],
        [() => make(session, wrong(42)), whose, 'must be a string, not 42'],
        [() => make(session, wrong(['x'])), whose, 'must be a string', 'Array'],
        [() => make(session, ''), whose, 'must not be empty'],
        [() => make(session, 'a\0'), whose, 'NUL', '"a\\u0000"'],
        // Written as UTF-8, these two would be one key.
        [() => make(session, 'a\ud800'), whose, 'lone surrogate', '"a\\ud800"'],
        [() => make(session, '\udc00a'), whose, 'lone surrogate', '"\\udc00a"'],
      ]);
      make(session, 'ein Schloß 🔒');
    }
    await refuse([[() => Session.open(wrong(null)), "a session's client must be a Client, not null"]]);
  });

  test('what is to run, and flags, are what they seem', async () => {
    const locks = new LockManager(session);
    const work = 'must be a function, not 42';
    await refuse([
      [() => new Mutex(session, 'x').run(wrong(42)), work],
      [() => new RWLock(session, 'x').read(wrong(42)), work],
      [() => new RWLock(session, 'x').write(wrong(42)), work],
      [() => new Semaphore(session, 'x', { limit: 1 }).run(wrong(42)), work],
      [() => new MultiMutex(session, ['x']).run(wrong(42)), work],
      [() => new Election(session, 'x').run('me', wrong(42)), "an election's lead", work],
      [() => locks.request('x', wrong<() => void>(42)), 'callback must be a function, not undefined'],
      [() => locks.request('x', {}, wrong<() => void>(42)), 'callback', work],
      [() => locks.request('x', wrong(null), () => 1), 'options', 'null'],
      [
        () => locks.request('x', { ifAvailable: wrong('no') }, () => 1),
        'ifAvailable must be true or false, not "no"',
      ],
      [() => locks.request('x', { mode: wrong('write') }, () => 1), 'mode', '"write"'],
      [() => locks.request('\ud800', () => 1), "a lock's name", 'lone surrogate'],
    ]);
  });
});
