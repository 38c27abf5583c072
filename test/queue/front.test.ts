/** The front of the waiting jobs, against a store that is a map. Env CONCLAVE_SEED repeats a run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Front, type FrontRead } from '#conclave/queue/front.js';
import type { Place } from '#conclave/queue/layout.js';

const seed = Number(process.env['CONCLAVE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

function random(from: number): (below: number) => number {
  let state = from | 1;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What etcd holds, and how many numbers its reads have walked over. */
class Store {
  readonly waiting = new Map<string, Place>();
  readonly tails = new Map<number, number>();
  walked = 0;

  push(priority: number): void {
    const number = this.tails.get(priority) ?? 0;
    this.tails.set(priority, number + 1);
    const place = { id: `${priority}:${number}`, number, priority };
    this.waiting.set(place.id, place);
  }

  read(read: FrontRead): Place[] {
    if (read.of === 'stray') return this.waiting.has(read.place.id) ? [read.place] : [];
    const found: Place[] = [];
    this.walked += read.to - read.from;
    for (let number = read.from; number < read.to && found.length < read.limit; number++) {
      const place = this.waiting.get(`${read.priority}:${number}`);
      if (place !== undefined) found.push(place);
    }
    return found;
  }
}

interface Worker {
  readonly front: Front;
  page: Place[];
  flight: { readonly reads: FrontRead[]; readonly found: Place[][] } | undefined;
}

test('workers that share a front claim every job once, walk over little, and overtake within bounds', (t) => {
  t.diagnostic(`seed ${seed}`);
  for (let round = 0; round < 150; round++) {
    const next = random(seed + round);
    const store = new Store();
    const count = next(3) === 0 ? 1 : 1 + next(8);
    const want = 1 + next(20);
    const block = 2 ** Math.floor(Math.log2(Math.min(want, 16)));
    const workers: Worker[] = Array.from({ length: count }, () => ({
      flight: undefined,
      front: new Front(),
      page: [],
    }));
    const backlog = next(3) === 0 ? 3000 : next(200);
    for (let at = 0; at < backlog; at++) store.push(next(2));
    for (const { front } of workers) front.reset(store.tails);
    const taken: Place[] = [];
    // What comes back may come too late for those who are just claiming what is behind it.
    const returned = new Set<string>();
    let pushed = backlog;
    let claims = 0;
    let furthest = 0;
    const tell = (change: (front: Front) => void): void => workers.forEach(({ front }) => change(front));

    const step = (worker: Worker, rank: number): void => {
      if (worker.flight === undefined) {
        const picks = worker.page.slice(0, want);
        worker.page = [];
        worker.front.claiming(picks);
        const reads = worker.front.plan(want, { block, rank, workers: count });
        for (const place of picks) {
          if (!store.waiting.has(place.id)) continue;
          const ahead = [...store.waiting.values()].filter(
            ({ id, priority, number }) =>
              priority === place.priority && number < place.number && !returned.has(id),
          );
          furthest = Math.max(furthest, ahead.length);
          store.waiting.delete(place.id);
          taken.push(place);
          claims += 1;
          worker.front.forget(place);
        }
        worker.flight = { found: reads.map((read) => store.read(read)), reads };
        return;
      }
      const { reads, found } = worker.flight;
      worker.flight = undefined;
      for (const [at, read] of reads.entries()) {
        const places = found[at] ?? [];
        if (read.of !== 'probe') worker.page.push(...places);
        if (read.of !== 'stray')
          worker.front.sawStretch(
            read,
            places.map(({ number }) => number),
          );
        else if (places.length === 0) worker.front.forget(read.place);
      }
    };

    let steps = 0;
    const busy = (): boolean =>
      store.waiting.size > 0 ||
      workers.some(({ front, flight, page }) => front.promising || flight || page.length > 0);
    while (busy()) {
      assert.ok(++steps < 200_000, 'the workers do not come to an end');
      if (pushed < 400 && next(10) === 0) {
        const priority = next(3);
        store.push(priority);
        pushed += 1;
        const tail = store.tails.get(priority) ?? 0;
        tell((front) => front.grew(priority, tail));
      }
      // A claimed job comes back, as when its worker is lost. What is told comes before or after what is read.
      if (claims < 2 * pushed && taken.length > 0 && next(15) === 0) {
        const [place] = taken.splice(
          next(2) === 0 ? next(taken.length) : Math.max(0, taken.length - 1 - next(want)),
          1,
        );
        if (place !== undefined) {
          store.waiting.set(place.id, place);
          returned.add(place.id);
          tell((front) => front.back(place));
        }
      }
      const rank = next(count);
      const worker = workers[rank];
      if (worker !== undefined) step(worker, rank);
    }
    assert.equal(taken.length, pushed);
    assert.equal(new Set(taken.map(({ id }) => id)).size, pushed);
    // At first each finds the head by one read over all; then each walks over every number a few times at most.
    const most = count * (backlog + 40 * (pushed + claims) + 4000);
    assert.ok(store.walked < most, `walked ${store.walked} of ${most}`);
    const reach = count === 1 ? 0 : 2 * count * block + want;
    assert.ok(
      furthest <= reach,
      `${furthest} jobs were overtaken, at most ${reach} may be, in round ${round}`,
    );
  }
});

test('a single worker takes jobs by priority, then in order', () => {
  const store = new Store();
  const front = new Front();
  for (let at = 0; at < 50; at++) store.push(at % 3);
  front.reset(store.tails);
  const taken: Place[] = [];
  while (front.promising) {
    const reads = front.plan(4, { block: 4, rank: 0, workers: 1 });
    for (const read of reads) {
      const places = store.read(read);
      if (read.of === 'stray') continue;
      front.sawStretch(
        read,
        places.map(({ number }) => number),
      );
      for (const place of places.slice(0, 4)) {
        store.waiting.delete(place.id);
        taken.push(place);
      }
    }
  }
  const sorted = [...taken].sort((a, b) => b.priority - a.priority || a.number - b.number);
  assert.deepEqual(taken, sorted);
  assert.equal(taken.length, 50);
});
