/** When a cache takes itself for as new as a read asks, with what etcd answers and its watch brings played by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConclaveError, systemClock } from 'conclave';
import { Cache } from '#conclave/etcd/cache/cache.js';
import type { CacheBase } from '#conclave/etcd/cache/cache-feed.js';
import { KeyValue } from '#conclave/etcd/kv/key-value.js';
import type { WatchEvent } from '#conclave/etcd/watch/watch-event.js';
import type { WatchSink } from '#conclave/etcd/watch/streamed-watch.js';
import { Deferred } from '#conclave/util/deferred.js';
import { until } from '../support/until.js';
import { withCode } from '../contract/support/rejections.js';

/** A key that was written once. */
function kv(key: string, modRevision: bigint, value = ''): KeyValue {
  const wire = { createRevision: modRevision, lease: 0n, modRevision, version: 1n };
  return new KeyValue({ ...wire, key: Buffer.from(key), value: Buffer.from(value) });
}

const put = (key: string, revision: bigint): WatchEvent => ({
  kv: kv(key, revision),
  prevKv: undefined,
  type: 'put',
});
const gone = (key: string, revision: bigint): WatchEvent => ({ ...put(key, revision), type: 'delete' });

/** What etcd answers to the question how new the cache must be. */
interface Answer {
  readonly revision: bigint;
  readonly count: bigint;
  readonly newest: bigint;
}

/** A cache of 'a' (written at 3) and 'b' (at 4), read at revision 5; its questions wait for an answer. */
async function played() {
  const closing = new AbortController();
  const questions: Deferred<Answer>[] = [];
  const sinks: WatchSink[] = [];
  let range = { count: 2n, kvs: [kv('a', 3n), kv('b', 4n)], more: false, revision: 5n };
  let pages: Promise<unknown> = Promise.resolve();
  let isOther = false;
  const base = {
    history: { epoch: 0, isOther: () => isOther },
    kv: { range: () => pages.then(() => range) },
    link: {
      clock: systemClock,
      closed: closing.signal,
      timeoutMs: 5000,
      unary: async () => {
        const question = new Deferred<Answer>();
        questions.push(question);
        const { count, newest, revision } = await question.promise;
        return { count, header: { revision }, kvs: [{ modRevision: newest }] };
      },
    },
    watches: {
      subscribe: (_: unknown, sink: WatchSink) => {
        sinks.push(sink);
        return { cancel: () => undefined, epoch: 0, nextRevision: 0n };
      },
    },
  };
  const cache = new Cache(base as unknown as CacheBase, { prefix: '' });
  await cache.ready();
  /** What a read finds once it is answered: its keys; and whether it is by now. */
  const reading = (consistency: 'linearizable' | { readonly atLeast: bigint } = 'linearizable') => {
    const read = { found: '', isOver: false };
    const done = cache.list({ consistency }).then(({ kvs }) => {
      read.isOver = true;
      read.found = kvs.map(({ key }) => key).join(' ');
      return read.found;
    });
    return { done, read };
  };
  return {
    answer: async (at: number, answer: Answer) => {
      await until(() => questions.length > at);
      questions[at]?.resolve(answer);
    },
    brings: (...events: WatchEvent[]) => sinks.at(-1)?.events(events, 0n),
    cache,
    failsWith: (code: 'COMPACTED' | 'HISTORY_REVERTED') =>
      sinks.at(-1)?.failed(new ConclaveError(code, 'gone')),
    isFollowing: (times: number) => until(() => sinks.length === times),
    questions,
    reading,
    set: (to: {
      readonly range?: typeof range;
      readonly isOther?: boolean;
      /** When the range can be read. */
      readonly pages?: Promise<unknown>;
    }) => {
      range = to.range ?? range;
      pages = to.pages ?? pages;
      isOther = to.isOther ?? isOther;
    },
  };
}

/** Lets everything happen that needs nothing from outside. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

test('it is new enough at the revision of the store, and with the newest key and as many keys', async () => {
  const { answer, cache, reading } = await played();
  const same = reading();
  await answer(0, { count: 2n, newest: 4n, revision: 5n });
  assert.equal(await same.done, 'a b');
  const others = reading();
  // Others have been written, outside of its range.
  await answer(1, { count: 2n, newest: 4n, revision: 900n });
  assert.equal(await others.done, 'a b');
  assert.equal(cache.revision, 5n);
});

test('it waits for the newest key', async () => {
  const { answer, brings, reading } = await played();
  const { done, read } = reading();
  await answer(0, { count: 2n, newest: 7n, revision: 9n });
  await settled();
  assert.equal(read.isOver, false);
  brings(put('b', 6n));
  await settled();
  assert.equal(read.isOver, false);
  brings(put('a', 7n));
  assert.equal(await done, 'a b');
});

test('it waits for a deletion that is on its way', async () => {
  const { answer, brings, reading } = await played();
  const { done, read } = reading();
  await answer(0, { count: 1n, newest: 3n, revision: 9n });
  await settled();
  assert.equal(read.isOver, false);
  brings(gone('b', 6n));
  assert.equal(await done, 'a');
});

test('what comes and goes before the store was asked need not have come, nor be waited for in part', async () => {
  const { answer, brings, reading } = await played();
  const { done, read } = reading();
  await answer(0, { count: 1n, newest: 8n, revision: 9n });
  brings(put('c', 6n), gone('c', 7n), put('a', 8n));
  await settled();
  assert.equal(read.isOver, false);
  brings(gone('b', 9n));
  assert.equal(await done, 'a');
});

test('all who ask at the same time share a question, and who asks later does not', async () => {
  const { answer, brings, questions, reading } = await played();
  const first = [reading(), reading(), reading()];
  await until(() => questions.length === 1);
  const later = [reading(), reading()];
  await settled();
  assert.equal(questions.length, 1);
  await answer(0, { count: 2n, newest: 4n, revision: 5n });
  assert.deepEqual(await Promise.all(first.map(({ done }) => done)), ['a b', 'a b', 'a b']);
  await settled();
  assert.equal(questions.length, 2);
  assert.deepEqual(
    later.map(({ read }) => read.isOver),
    [false, false],
  );
  await answer(1, { count: 3n, newest: 6n, revision: 6n });
  brings(put('c', 6n));
  assert.deepEqual(await Promise.all(later.map(({ done }) => done)), ['a b c', 'a b c']);
});

test('a question that fails is a failure of those who share it, and of nobody later', async () => {
  const { answer, questions, reading } = await played();
  const failing = [reading(), reading()];
  await until(() => questions.length === 1);
  const later = reading();
  questions[0]?.reject(new ConclaveError('UNAVAILABLE', 'nobody answers'));
  for (const { done } of failing) await assert.rejects(done, withCode('UNAVAILABLE'));
  await answer(1, { count: 2n, newest: 4n, revision: 5n });
  assert.equal(await later.done, 'a b');
});

test('what was asked before the range was read anew is asked again', async () => {
  for (const code of ['HISTORY_REVERTED', 'COMPACTED'] as const) {
    const { answer, cache, failsWith, isFollowing, questions, reading, set } = await played();
    const waiting = reading();
    const asking = reading({ atLeast: 100n });
    await answer(0, { count: 9n, newest: 100n, revision: 100n });
    await settled();
    set({ range: { count: 1n, kvs: [kv('z', 2n)], more: false, revision: 2n } });
    failsWith(code);
    // Until it has read anew, local readers get what was there.
    assert.equal((await cache.get('a', { consistency: 'local' }))?.key, 'a');
    await isFollowing(2);
    await until(() => questions.length === 2);
    await answer(1, { count: 1n, newest: 2n, revision: 2n });
    assert.equal(await waiting.done, 'z');
    await assert.rejects(asking.done, withCode('FUTURE_REVISION'));
  }
});

test('an answer that comes after the range was read anew is of what it may no longer have', async () => {
  const { answer, brings, failsWith, isFollowing, questions, reading, set } = await played();
  const { done, read } = reading();
  await until(() => questions.length === 1);
  set({ range: { count: 1n, kvs: [kv('z', 2n)], more: false, revision: 2n } });
  failsWith('HISTORY_REVERTED');
  await isFollowing(2);
  await answer(0, { count: 1n, newest: 2n, revision: 2n });
  await answer(1, { count: 2n, newest: 3n, revision: 3n });
  await settled();
  assert.equal(read.isOver, false);
  brings(put('y', 3n));
  assert.equal(await done, 'y z');
});

test('an answer that comes while the range is read anew is of what it may no longer have', async () => {
  const { answer, failsWith, isFollowing, questions, reading, set } = await played();
  const { done, read } = reading();
  await until(() => questions.length === 1);
  const pages = new Deferred<void>();
  set({ pages: pages.promise, range: { count: 1n, kvs: [kv('z', 2n)], more: false, revision: 2n } });
  failsWith('HISTORY_REVERTED');
  await answer(0, { count: 1n, newest: 2n, revision: 2n });
  await settled();
  assert.equal(read.isOver, false);
  pages.resolve();
  await isFollowing(2);
  await answer(1, { count: 1n, newest: 2n, revision: 2n });
  assert.equal(await done, 'z');
});

test('an answer of another cluster proves nothing', async () => {
  const { answer, failsWith, questions, reading, set } = await played();
  set({ isOther: true });
  const { done, read } = reading();
  await answer(0, { count: 2n, newest: 4n, revision: 5n });
  await settled();
  assert.equal(read.isOver, false);
  set({ isOther: false, range: { count: 0n, kvs: [], more: false, revision: 1n } });
  failsWith('HISTORY_REVERTED');
  await until(() => questions.length === 2);
  await answer(1, { count: 0n, newest: 0n, revision: 1n });
  assert.equal(await done, '');
});

test('at least a revision: it is there already, comes, or is yet to be written', async () => {
  const { answer, brings, questions, reading } = await played();
  assert.equal(await reading({ atLeast: 5n }).done, 'a b');
  assert.equal(questions.length, 0);
  const coming = reading({ atLeast: 7n });
  await answer(0, { count: 3n, newest: 6n, revision: 8n });
  brings(put('c', 6n));
  assert.equal(await coming.done, 'a b c');
  const future = reading({ atLeast: 50n });
  await answer(1, { count: 3n, newest: 6n, revision: 49n });
  await assert.rejects(future.done, withCode('FUTURE_REVISION'));
});
