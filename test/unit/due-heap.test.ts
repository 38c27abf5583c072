// The heap of what falls due: its order against a plain sort, and the work it takes, by the looks it takes at its items.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Due, DueHeap } from '#conclave/etcd/lease/due-heap.js';
import { Random } from '../faults/random.js';

/** Something due that counts how often anybody looks when. */
class Watched implements Due {
  static looks = 0;
  place = 0;
  #dueAt: number;

  constructor(dueAt: number) {
    this.#dueAt = dueAt;
  }

  get dueAt(): number {
    Watched.looks += 1;
    return this.#dueAt;
  }

  set dueAt(at: number) {
    this.#dueAt = at;
  }
}

describe('the heap of what falls due', () => {
  test('gives what a sort gives, whatever is added, moved and removed', (t) => {
    const random = new Random(t);
    const heap = new DueHeap<Due>();
    const items: Due[] = [];
    for (let step = 0; step < 5000; step++) {
      const dueAt = random.below(20) === 0 ? Infinity : random.below(300);
      const strike = random.below(5);
      if (items.length === 0 || strike < 2) {
        const item = { dueAt, place: 0 };
        items.push(item);
        heap.add(item);
      } else if (strike < 4) {
        heap.move(random.pick(items), dueAt);
      } else {
        const item = random.pick(items);
        items.splice(items.indexOf(item), 1);
        heap.remove(item);
      }
      assert.equal(heap.size, items.length);
      assert.equal(heap.first?.dueAt, [...items].sort((a, b) => a.dueAt - b.dueAt)[0]?.dueAt);
    }
    assert.deepEqual(new Set(heap), new Set(items));
  });

  test('looks at a few items for each change, however many there are', (t) => {
    const random = new Random(t);
    const count = 100_000;
    const heap = new DueHeap<Watched>();
    const items = Array.from({ length: count }, () => new Watched(random.below(1_000_000)));
    const most = 4 * (Math.log2(count) + 2);
    const looksAt = (change: () => void): void => {
      Watched.looks = 0;
      change();
      assert.ok(Watched.looks <= most, `${Watched.looks} looks`);
    };
    for (const item of items) looksAt(() => heap.add(item));
    for (let n = 0; n < 1000; n++) {
      const first = heap.first as Watched;
      looksAt(() => heap.move(first, first.dueAt + 1_000_000));
      looksAt(() => heap.move(random.pick(items), random.below(1_000_000)));
    }
    for (const item of items) looksAt(() => heap.remove(item));
    assert.equal(heap.first, undefined);
  });
});
