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
    if (read.of === 'sweep') {
      for (const [at, { priority, to }] of read.lines.entries()) {
        const line = { from: at === 0 ? read.from : 0, limit: read.limit - found.length, priority, to };
        found.push(...this.read({ of: 'stretch', ...line }));
      }
      return found;
    }
    this.walked += read.to - read.from;
    for (let number = read.from; number < read.to && found.length < read.limit; number++) {
      const place = this.waiting.get(`${read.priority}:${number}`);
      if (place !== undefined) found.push(place);
    }
    return found;
  }
}

/** Tells the front what its reads have found; resolves with what may be claimed. */
function learn(front: Front, reads: readonly FrontRead[], found: readonly (readonly Place[])[]): Place[] {
  for (const [at, read] of reads.entries()) {
    const places = found[at] ?? [];
    if (read.of === 'sweep') front.sawSweep(read, places);
    else if (read.of === 'stray') {
      if (places.length === 0) front.forget(read.place);
    } else
      front.sawStretch(
        read,
        places.map(({ number }) => number),
      );
  }
  return reads.flatMap((read, at) => (read.of === 'probe' ? [] : (found[at] ?? [])));
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
    const kinds = next(4) === 0 ? 20 + next(30) : 2;
    for (let at = 0; at < backlog; at++) store.push(next(kinds));
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
      worker.page.push(...learn(worker.front, reads, found));
    };

    let steps = 0;
    const busy = (): boolean =>
      store.waiting.size > 0 ||
      workers.some(({ front, flight, page }) => front.promising || flight || page.length > 0);
    while (busy()) {
      assert.ok(++steps < 200_000, 'the workers do not come to an end');
      if (pushed < 400 && next(10) === 0) {
        const priority = next(kinds + 1);
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

/** A single worker takes all there is, `want` at a time. Resolves with the jobs in the order of their claims. */
function takeAll(
  store: Store,
  front: Front,
  want: number,
): { readonly taken: Place[]; readonly turns: number } {
  const taken: Place[] = [];
  let page: Place[] = [];
  let turns = 0;
  for (; page.length > 0 || front.promising; turns++) {
    const picks = page.slice(0, want);
    front.claiming(picks);
    const reads = front.plan(want, { block: 4, rank: 0, workers: 1 });
    for (const { id } of picks) store.waiting.delete(id);
    taken.push(...picks);
    const found = reads.map((read) => store.read(read));
    for (const place of picks) front.forget(place);
    page = learn(front, reads, found);
  }
  return { taken, turns };
}

test('a single worker takes jobs by priority, then in order', () => {
  for (const priorities of [3, 30, 300]) {
    const store = new Store();
    const front = new Front();
    for (let at = 0; at < 500; at++) store.push(at % priorities);
    front.reset(store.tails);
    const { taken } = takeAll(store, front, 4);
    const sorted = [...taken].sort((a, b) => b.priority - a.priority || a.number - b.number);
    assert.deepEqual(taken, sorted);
    assert.equal(taken.length, 500);
  }
});

test('jobs of as many priorities are found with a read or so for each turn, by a newcomer or one by one', () => {
  for (const known of [false, true]) {
    const store = new Store();
    const front = new Front();
    for (let at = 0; at < 20_000; at++) store.push(at - 10_000);
    if (!known) front.reset(store.tails);
    else for (const [priority, tail] of store.tails) front.grew(priority, tail);
    const { taken, turns } = takeAll(store, front, 20);
    assert.equal(taken.length, 20_000);
    assert.ok(turns <= 2001, `it took ${turns} turns`);
    assert.ok(store.walked < 20_000 * 30, `walked ${store.walked}`);
  }
});

test('a newcomer finds the only job behind many priorities that are used up in a few turns', () => {
  const store = new Store();
  for (let at = 0; at < 65_536; at++) store.tails.set(at - 32_768, 100);
  const place = { id: '-32768:99', number: 99, priority: -32_768 };
  store.waiting.set(place.id, place);
  const front = new Front();
  front.reset(store.tails);
  const { taken, turns } = takeAll(store, front, 1);
  assert.deepEqual(taken, [place]);
  assert.ok(turns <= 12, `it took ${turns} turns`);
});
