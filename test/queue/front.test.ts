/** The front of the waiting jobs, against a store that is a map. Env CONCLAVE_SEED repeats a run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { BacklogCursor } from '#conclave/queue/consume/backlog-cursor.js';
import type { FrontRead } from '#conclave/queue/consume/backlog-line.js';
import type { Place } from '#conclave/queue/store/keys.js';
import { firstNumber } from '#conclave/queue/store/numbering.js';

const seed = Number(process.env['CONCLAVE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

function random(from: number): (below: number) => number {
  let state = from | 1;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What etcd holds, and how many keys its reads have walked over: those that are there, and those that were. */
class Store {
  readonly waiting = new Map<string, Place>();
  readonly tails = new Map<number, number>();
  /** Every job there ever was, in order, by priority. */
  readonly #all = new Map<number, Place[]>();
  readonly #versions = new Map<number, number>();
  walked = 0;
  #pushed = 0;

  /**
   * Appends `count` jobs in one transaction of somebody who had seen the sequence when it was `late` transactions younger.
   * Returns the first number.
   */
  push(priority: number, count = 1, late = 0): number {
    const version = this.#versions.get(priority) ?? 0;
    this.#versions.set(priority, version + 1);
    const first = firstNumber(0, Math.max(0, version - late));
    this.tails.set(priority, firstNumber(0, version + 1));
    for (let at = 0; at < count; at++) {
      const place = { id: `${priority}:${this.#pushed++}`, number: first + at, priority };
      this.waiting.set(place.id, place);
      const all = this.#all.get(priority) ?? [];
      this.#all.set(priority, all);
      all.splice(indexOf(all, place.number + 1), 0, place);
    }
    return first;
  }

  read(read: FrontRead): { readonly places: Place[]; readonly count: number } {
    if (read.of === 'returned') {
      const places = this.waiting.has(read.place.id) ? [read.place] : [];
      return { count: places.length, places };
    }
    if (read.of === 'sweep') {
      const places: Place[] = [];
      for (const [at, { priority, to }] of read.lines.entries()) {
        const line = { from: at === 0 ? read.from : 0, limit: read.limit - places.length, priority, to };
        if (line.limit > 0) places.push(...this.read({ of: 'stretch', ...line }).places);
      }
      return { count: places.length, places };
    }
    const all = this.#all.get(read.priority) ?? [];
    const walked = all.slice(indexOf(all, read.from), indexOf(all, read.to));
    this.walked += walked.length;
    const found = walked.filter(({ id }) => this.waiting.has(id));
    return { count: found.length, places: found.slice(0, read.limit) };
  }
}

/** Where the jobs of this number and greater ones begin. */
function indexOf(all: readonly Place[], number: number): number {
  let at = 0;
  for (let end = all.length; at < end;) {
    const middle = (at + end) >> 1;
    if ((all[middle]?.number ?? Infinity) < number) at = middle + 1;
    else end = middle;
  }
  return at;
}

type Answers = readonly ReturnType<Store['read']>[];

/** Tells the front what its reads have found; resolves with what may be claimed. */
function learn(front: BacklogCursor, reads: readonly FrontRead[], answers: Answers): Place[] {
  const usable: Place[] = [];
  for (const [at, read] of reads.entries()) {
    const { count = 0, places = [] } = answers[at] ?? {};
    if (read.of !== 'probe' && front.isUsable(read)) usable.push(...places);
    if (read.of === 'sweep') front.sawSweep(read, places);
    else if (read.of === 'leftovers') front.sawLeftovers(read, places);
    else if (read.of === 'returned') {
      if (places.length === 0) front.forget(read.place);
    } else {
      const numbers = places.map(({ number }) => number);
      front.sawStretch(read, numbers, count);
    }
  }
  return [...new Map(usable.map((place) => [place.id, place])).values()];
}

interface Worker {
  readonly front: BacklogCursor;
  page: Place[];
  flight: { readonly reads: FrontRead[]; readonly found: Answers } | undefined;
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
      front: new BacklogCursor(),
      page: [],
    }));
    const backlog = next(3) === 0 ? 3000 : next(200);
    const kinds = next(4) === 0 ? 20 + next(30) : 2;
    // One by one, in batches, or both.
    const largest = 1 + next(2) * next(100);
    const size = (): number => (next(3) === 0 ? 1 : 1 + next(largest));
    for (let left = backlog; left > 0;) {
      const batch = Math.min(left, size());
      store.push(next(kinds), batch);
      left -= batch;
    }
    for (const { front } of workers) front.reset(store.tails);
    const taken: Place[] = [];
    // What comes back, or is appended late, may come too late for those who are just claiming what is behind it.
    const returned = new Set<string>();
    let pushed = backlog;
    let claims = 0;
    let furthest = 0;
    const tell = (change: (front: BacklogCursor) => void): void =>
      workers.forEach(({ front }) => change(front));

    const step = (worker: Worker, rank: number): void => {
      if (worker.flight === undefined) {
        const picks = worker.page.slice(0, want);
        worker.page = [];
        if (picks.length === 0 && !worker.front.promising) worker.front.beIdle();
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
      workers.some(
        ({ front, flight, page }) => front.promising || front.hasLeftovers || flight || page.length > 0,
      );
    while (busy()) {
      assert.ok(++steps < 200_000, 'the workers do not come to an end');
      if (pushed < 400 && next(10) === 0) {
        const priority = next(kinds + 1);
        const late = next(2) * next(20);
        const before = new Set(store.waiting.keys());
        const batch = size();
        const first = store.push(priority, batch, late);
        if (late > 0) for (const id of store.waiting.keys()) if (!before.has(id)) returned.add(id);
        pushed += batch;
        const tail = store.tails.get(priority) ?? 0;
        tell((front) => front.grew(priority, tail, first));
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
          const turn = next(64);
          tell((front) => front.back({ place, turn }));
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
  front: BacklogCursor,
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
    const front = new BacklogCursor();
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
    const front = new BacklogCursor();
    for (let at = 0; at < 20_000; at++) store.push(at - 10_000);
    if (!known) front.reset(store.tails);
    else for (const [priority, tail] of store.tails) front.grew(priority, tail, 0);
    const { taken, turns } = takeAll(store, front, 20);
    assert.equal(taken.length, 20_000);
    assert.ok(turns <= 2001, `it took ${turns} turns`);
    assert.ok(store.walked < 20_000 * 30, `walked ${store.walked}`);
  }
});

test('a newcomer finds the only job behind many priorities that are used up in a few turns', () => {
  const store = new Store();
  store.push(-32_768);
  const [place] = store.waiting.values();
  // Each was appended to a hundred times.
  for (let at = 0; at < 65_536; at++) store.tails.set(at - 32_768, firstNumber(0, 100));
  const front = new BacklogCursor();
  front.reset(store.tails);
  const { taken, turns } = takeAll(store, front, 1);
  assert.deepEqual(taken, [place]);
  assert.ok(turns <= 12, `it took ${turns} turns`);
});

test('jobs of a lost worker cost 1.2 transactions each, when 64 workers share them', (t) => {
  const rounds = [1, 2, 3].map((round) => {
    const next = random(seed + round);
    const workers = 64;
    const store = new Store();
    const fleet = Array.from({ length: workers }, () => ({
      front: new BacklogCursor(),
      page: [] as Place[],
      reads: [] as FrontRead[],
    }));
    // 1000 jobs were with the lost worker; they come back while everybody is idle.
    for (let at = 0; at < 10; at++) store.push(0, 100);
    for (const { front } of fleet) front.reset(store.tails);
    const places = [...store.waiting.values()];
    // All of them have been read past.
    for (const { front } of fleet)
      while (front.promising)
        for (const read of front.plan(1, { block: 1, rank: 0, workers: 1 }))
          if (read.of === 'sweep') front.sawSweep(read, []);
    for (const { front } of fleet) for (const [turn, place] of places.entries()) front.back({ place, turn });
    let transactions = 0;
    // Each transaction takes about as long as another one, and so do handlers.
    const queue = fleet.map((worker, rank) => ({ at: next(64), rank, worker }));
    while (store.waiting.size > 0 || queue.some(({ worker }) => worker.page.length > 0)) {
      assert.ok(transactions < 100_000, 'the workers do not come to an end');
      queue.sort((a, b) => a.at - b.at);
      const [turn] = queue;
      assert.ok(turn);
      const { rank, worker } = turn;
      if (worker.page.length === 0 && !worker.front.promising) {
        worker.front.beIdle();
        turn.at += 400 + next(200);
        continue;
      }
      const picks = worker.page.slice(0, 1);
      worker.front.claiming(picks);
      worker.reads = worker.front.plan(1, { block: 1, rank, workers });
      transactions += 1;
      for (const place of picks) {
        if (store.waiting.delete(place.id)) turn.at += 100 + next(20);
        worker.front.forget(place);
      }
      worker.page = learn(
        worker.front,
        worker.reads,
        worker.reads.map((read) => store.read(read)),
      );
      turn.at += 100 + next(20);
    }
    return transactions / 1000;
  });
  t.diagnostic(`${rounds.join(', ')} transactions each`);
  assert.ok(Math.max(...rounds) <= 1.2, `${rounds.join(', ')} transactions each`);
});

test('what a read has seen that was under way when everything was read anew does not hide what came back since', () => {
  const front = new BacklogCursor();
  const by = { block: 1, rank: 0, workers: 1 };
  front.reset(new Map([[0, 100]]));
  const [late] = front.plan(1, by);
  assert.ok(late?.of === 'sweep');
  // Number 5 came back after the read, and its announcement was lost with the history.
  front.reset(new Map([[0, 100]]));
  front.sawSweep(late, [{ id: 'a', number: 50, priority: 0 }]);
  const [next] = front.plan(1, by);
  assert.ok(next?.of === 'sweep' && next.from === 0);
});
