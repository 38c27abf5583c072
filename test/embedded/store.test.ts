import assert from 'node:assert/strict';
import test from 'node:test';

import { keyRange, keyText, singleKey } from '#conclave/embedded/store/key-range.js';
import { LeaseTable } from '#conclave/embedded/lease/lease-table.js';
import { SortedKeys } from '#conclave/embedded/store/sorted-keys.js';
import { IntervalTree } from '#conclave/embedded/watch/interval-tree.js';
import { Store } from '#conclave/embedded/store/store.js';

import { bytes, OPEN } from './harness.js';

const all = keyRange(bytes('\0'), OPEN);

function put(store: Store, key: string, value: string): bigint {
  store.write((batch) => {
    batch.put(bytes(key), bytes(value), 0n);
  });
  return store.revision;
}

function shown(store: Store, revision = 0n): string {
  return store
    .range(all, { revision })
    .kvs.map(({ key, value }) => `${key.toString()}=${value.toString()}`)
    .join(' ');
}

test('an empty store is at revision 1 and every write makes one revision', () => {
  const store = new Store(new LeaseTable());
  assert.equal(store.revision, 1n);
  assert.equal(put(store, 'a', '1'), 2n);
  store.write((batch) => {
    batch.put(bytes('b'), bytes('2'), 0n);
    batch.put(bytes('c'), bytes('3'), 0n);
  });
  assert.equal(store.revision, 3n);
  store.write((batch) => batch.delete(keyRange(bytes('x'), bytes(''))));
  assert.equal(store.revision, 3n, 'deleting nothing makes no revision');
});

test('the past stays readable until it is compacted', () => {
  const store = new Store(new LeaseTable());
  put(store, 'a', '1');
  put(store, 'a', '2');
  store.write((batch) => batch.delete(all));
  put(store, 'b', '3');
  assert.deepEqual(
    [1n, 2n, 3n, 4n, 5n].map((revision) => shown(store, revision)),
    ['', 'a=1', 'a=2', '', 'b=3'],
  );
  store.compact(3n);
  assert.equal(shown(store, 3n), 'a=2', 'the compacted revision itself can be read');
  assert.throws(() => shown(store, 2n), {
    message: 'etcdserver: mvcc: required revision has been compacted',
  });
  assert.throws(() => shown(store, 6n), {
    message: 'etcdserver: mvcc: required revision is a future revision',
  });
  assert.throws(() => store.compact(3n), {
    message: 'etcdserver: mvcc: required revision has been compacted',
  });
  store.compact(5n);
  assert.deepEqual(
    [...store.versions()].map(({ text }) => text),
    ['b'],
    'a deleted key is forgotten',
  );
  assert.equal(store.bytes, 2);
});

test('a key that was deleted starts over at version 1', () => {
  const store = new Store(new LeaseTable());
  put(store, 'a', '1');
  put(store, 'a', '2');
  store.write((batch) => batch.delete(singleKey('a')));
  put(store, 'a', '3');
  const [kv] = store.range(singleKey('a')).kvs;
  assert.deepEqual([kv?.createRevision, kv?.modRevision, kv?.version], [5n, 5n, 1n]);
});

test('keys are in the order of bytes and counted past the limit', () => {
  const store = new Store(new LeaseTable());
  for (const key of ['\xff', 'b', '\0', 'a\xff', 'a']) put(store, key, '');
  const { kvs, count } = store.range(all, { limit: 3 });
  assert.deepEqual(
    kvs.map(({ text }) => text),
    ['\0', 'a', 'a\xff'],
  );
  assert.equal(count, 5);
});

test('the sorted set agrees with a plain list through many changes', () => {
  const keys = new SortedKeys();
  const model = new Set<string>();
  let seed = 1;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let step = 0; step < 20_000; step++) {
    const key = random(4000).toString(36);
    if (random(10) < 6) {
      keys.add(key);
      model.add(key);
    } else {
      keys.delete(key);
      model.delete(key);
    }
    if (step % 1000 > 0) continue;
    const begin = random(4000).toString(36);
    const end = random(4000).toString(36);
    const expected = [...model].filter((each) => begin <= each && each < end).sort();
    assert.deepEqual([...keys.range(begin, end)], expected);
    assert.equal(keys.count(begin, end), expected.length);
  }
});

test('the interval tree agrees with a plain list through many changes', () => {
  const tree = new IntervalTree<number>();
  const model = new Map<number, ReturnType<typeof keyRange>>();
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const key = (): Buffer => bytes(random(60).toString(36));
  for (let step = 0; step < 5000; step++) {
    const item = random(200);
    const known = model.get(item);
    if (known === undefined) {
      const range = keyRange(key(), random(10) === 0 ? OPEN : key());
      model.set(item, range);
      tree.add(range, item);
    } else {
      model.delete(item);
      tree.delete(known, item);
    }
    const at = keyText(key());
    const expected = [...model].filter(([, { begin, end }]) => begin <= at && at < end).map(([each]) => each);
    assert.deepEqual(tree.at(at).sort(), expected.sort());
  }
});
