// The checker of watches: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkWatches, type HistoryRecord, type ChangedKey, type ListedKey } from 'conclave/testing';

import { allOf, changed, type Found, inserted, Random, without } from './mutations.js';
import { type Draft, rules, timed } from './records.js';
import { playWatches } from './watch-model.js';

type Event = ChangedKey & ListedKey;
const put = (key: string, modRevision: bigint): Event => ({ key, kind: 'put', modRevision });
const del = (key: string, modRevision: bigint): Event => ({ key, kind: 'delete', modRevision });
const commit = (revision: bigint, ...changes: Event[]): Draft => ({
  changes: changes.map(({ key, kind }) => ({ key, kind })),
  is: 'commit',
  process: 'etcd',
  revision,
});
const ofWatch = { process: 'W', watch: 1 };
const begins = (from: bigint | undefined, more: object = {}): Draft => ({
  ...ofWatch,
  from,
  is: 'watchBegins',
  range: { prefix: 'a/' },
  ...more,
});
const batch = (revision: bigint, events: readonly Event[], more: object = {}): Draft => ({
  ...ofWatch,
  events,
  is: 'watchBatch',
  revision,
  ...more,
});
const relisted = (revision: bigint, ...snapshot: ListedKey[]): Draft => batch(revision, [], { snapshot });
const ends: Draft = { ...ofWatch, is: 'watchEnds' };
const compacted = (revision: bigint): Draft => ({ is: 'compacted', process: 'etcd', revision });
const reverted = (revision: bigint): Draft => ({ is: 'reverted', process: 'etcd', revision });

/** Two keys at 2, another one that is not watched at 3, and a key at 4. */
const store = [
  commit(2n, put('a/x', 2n), put('a/y', 2n)),
  commit(3n, put('b/x', 3n)),
  commit(4n, del('a/x', 4n)),
];
const at2 = [put('a/x', 2n), put('a/y', 2n)];
const at4 = [del('a/x', 4n)];

function broken(...drafts: readonly Draft[]): string[] {
  const violations = checkWatches(timed(...drafts));
  for (const { at } of violations) assert.ok(at.length > 0, 'it shows records');
  return rules(violations);
}

describe('checkWatches accepts', () => {
  test('all events, in one batch or in several, however far the store is', () => {
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, [...at2, ...at4], { nextRevision: 5n })), []);
    assert.deepEqual(broken(begins(2n), ...store, batch(2n, at2), batch(4n, at4)), []);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at2, { nextRevision: 3n }), batch(4n, at4)), []);
  });

  test('a watch that begins later, in the middle, in the future, or nobody knows where', () => {
    assert.deepEqual(broken(...store, begins(5n)), []);
    assert.deepEqual(broken(...store, begins(3n), batch(4n, at4)), []);
    assert.deepEqual(broken(begins(4n), ...store, batch(4n, at4)), []);
    assert.deepEqual(broken(begins(undefined), ...store, batch(4n, at4)), []);
  });

  test('one that ends before it was told all, and another that goes on for it', () => {
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at2), ends), []);
    const second = { ...begins(3n), watch: 2 } as Draft;
    assert.deepEqual(
      broken(begins(2n), ...store, batch(4n, at2), ends, second, { ...batch(4n, at4), watch: 2 } as Draft),
      [],
    );
  });

  test('other ranges and filters', () => {
    assert.deepEqual(broken(begins(2n, { range: 'b/x' }), ...store, batch(3n, [put('b/x', 3n)])), []);
    assert.deepEqual(
      broken(
        begins(2n, { range: { end: 'a/y', start: 'a/' } }),
        ...store,
        batch(4n, [put('a/x', 2n), ...at4]),
      ),
      [],
    );
    assert.deepEqual(broken(begins(2n, { filter: 'noput' }), ...store, batch(4n, at4)), []);
    assert.deepEqual(broken(begins(2n, { filter: 'nodelete' }), ...store, batch(4n, at2)), []);
  });

  test('reports of progress, and fragments that are not joined', () => {
    assert.deepEqual(
      broken(begins(2n), ...store, batch(4n, [...at2, ...at4]), batch(4n, [], { nextRevision: 5n })),
      [],
    );
    assert.deepEqual(broken(begins(5n), ...store, batch(4n, [])), []);
    const [one, other] = at2;
    assert.ok(one && other);
    assert.deepEqual(
      broken(begins(2n), ...store, batch(4n, [one], { more: true }), batch(4n, [other]), batch(4n, at4)),
      [],
    );
  });

  test('a snapshot after a compaction, and what follows it', () => {
    const after = commit(5n, put('a/z', 5n));
    const late = [begins(2n), ...store, compacted(3n), relisted(4n, { key: 'a/y', modRevision: 2n })];
    assert.deepEqual(broken(...late, after, batch(5n, [put('a/z', 5n)])), []);
    assert.deepEqual(broken(begins(2n), compacted(9n), relisted(1n)), [], 'of nothing');
  });

  test('a store that goes back, with a snapshot, or unseen by who was not so far', () => {
    const again = commit(3n, put('a/z', 3n));
    const told = [begins(2n), ...store, batch(4n, [...at2, ...at4]), reverted(2n)];
    const both = at2.map(({ key, modRevision }) => ({ key, modRevision }));
    assert.deepEqual(broken(...told, relisted(2n, ...both), again, batch(3n, [put('a/z', 3n)])), []);
    assert.deepEqual(
      broken(begins(2n), ...store, batch(2n, at2), reverted(2n), again, batch(3n, [put('a/z', 3n)])),
      [],
    );
    assert.deepEqual(
      broken(begins(2n), ...store, reverted(2n), batch(4n, [...at2, ...at4]), relisted(2n, ...both)),
      [],
      'what was under way may come after it',
    );
  });
});

describe('checkWatches refuses', () => {
  test('an event that is lost, in the middle, between batches, or at the end', () => {
    const lost = ['event-lost'];
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, [put('a/y', 2n), ...at4])), lost);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at4)), lost);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at2)), lost);
    assert.deepEqual(broken(begins(2n), ...store), lost);
  });

  test('an event that is repeated, in a batch or in the next', () => {
    const repeated = ['event-repeated'];
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, [...at2, ...at4, ...at4])), repeated);
    assert.deepEqual(broken(begins(2n), ...store, batch(2n, at2), batch(4n, [...at2, ...at4])), repeated);
  });

  test('events in another order, within a revision, across revisions, and across batches', () => {
    const reordered = ['event-reordered'];
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, [...at2.toReversed(), ...at4])), reordered);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, [...at4, ...at2])), reordered);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at4), batch(4n, at2)), [
      'event-lost',
      ...reordered,
    ]);
  });

  test('what was never written, not yet, not so, not there, or before its start', () => {
    const foreign = ['event-foreign'];
    assert.deepEqual(broken(begins(5n), ...store, batch(4n, [put('a/z', 4n)])), foreign);
    assert.deepEqual(broken(begins(5n), ...store, batch(4n, [put('a/x', 4n)])), foreign);
    assert.deepEqual(broken(begins(5n), ...store, batch(4n, [put('b/x', 3n)])), foreign);
    assert.deepEqual(broken(...store, begins(3n), batch(4n, [...at2, ...at4])), foreign);
    assert.deepEqual(broken(begins(2n), batch(2n, at2), ...store, batch(4n, at4)), [
      'event-foreign',
      'event-lost',
      'progress-ahead',
    ]);
    assert.deepEqual(broken(...store, batch(4n, at4)), foreign, 'a watch that did not begin');
  });

  test('a revision that comes in two', () => {
    const [one, other] = at2;
    assert.ok(one && other);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, [one]), batch(4n, [other]), batch(4n, at4)), [
      'revision-split',
    ]);
  });

  test('a report that is ahead of what was told, and a header that is not where the store is', () => {
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at2), batch(4n, []), batch(4n, at4)), [
      'progress-ahead',
    ]);
    assert.deepEqual(broken(begins(2n), ...store, batch(9n, [...at2, ...at4])), ['progress-ahead']);
    assert.deepEqual(broken(begins(2n), ...store, batch(3n, [...at2, ...at4])), ['header-behind']);
  });

  test('a place to go on at that skips something, or repeats it', () => {
    const wrong = ['resume-wrong'];
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at2, { nextRevision: 5n }), ends), wrong);
    assert.deepEqual(broken(begins(2n), ...store, batch(4n, at2, { nextRevision: 2n }), ends), wrong);
    assert.deepEqual(broken(begins(5n), ...store, batch(4n, [], { nextRevision: 6n }), ends), wrong);
  });

  test('a snapshot that nothing calls for, or that is not what was there', () => {
    const key = { key: 'a/y', modRevision: 2n };
    const wrong = ['snapshot-wrong'];
    assert.deepEqual(broken(begins(2n), ...store, relisted(4n, key)), ['relisted-without-cause']);
    assert.deepEqual(broken(begins(2n), ...store, compacted(1n), relisted(4n, key)), [
      'relisted-without-cause',
    ]);
    const late = [begins(2n), ...store, compacted(4n)];
    assert.deepEqual(broken(...late, relisted(4n)), wrong);
    assert.deepEqual(broken(...late, relisted(4n, { ...key, modRevision: 3n })), wrong);
    assert.deepEqual(broken(...late, relisted(4n, key, { key: 'a/x', modRevision: 2n })), wrong);
    assert.deepEqual(broken(...late, relisted(4n, key, { key: 'b/x', modRevision: 3n })), wrong);
    assert.deepEqual(broken(...late, relisted(4n, key, key)), wrong);
    assert.deepEqual(
      broken(
        ...late,
        batch(4n, [...at2, ...at4]),
        compacted(9n),
        relisted(2n, key, { key: 'a/x', modRevision: 2n }),
        ends,
      ),
      wrong,
      'older than what was told',
    );
  });

  test('an event again that a snapshot had, and one that it had not', () => {
    const late = [begins(2n), ...store, compacted(4n), relisted(4n, { key: 'a/y', modRevision: 2n })];
    assert.deepEqual(broken(...late, batch(4n, at4)), ['event-repeated']);
    assert.deepEqual(broken(...late, commit(5n, put('a/z', 5n))), ['event-lost']);
  });

  test('one that goes on as if the store had not gone back', () => {
    const again = [
      reverted(2n),
      commit(3n, put('a/z', 3n)),
      commit(4n, put('a/z', 4n)),
      commit(5n, put('a/z', 5n)),
    ];
    const told = [begins(2n), ...store, batch(4n, [...at2, ...at4])];
    assert.ok(broken(...told, ...again, batch(5n, [put('a/z', 5n)])).includes('event-foreign'));
    assert.deepEqual(broken(...told, ...again), ['event-lost']);
  });
});

describe('checkWatches, of histories by a model', () => {
  const SEEDS = 150;
  const full = (history: readonly HistoryRecord[]) =>
    allOf(history, 'watchBatch').filter(({ record }) => record.events.length > 0);
  const spoilers: Readonly<
    Record<
      string,
      (history: HistoryRecord[], one: Found<'watchBatch'>, random: Random) => HistoryRecord[] | undefined
    >
  > = {
    'event-foreign': (history, one, random) => {
      const at = random.below(one.record.events.length);
      const event = one.record.events[at] as Event;
      const other = random.pick<Partial<Event>>([
        { modRevision: event.modRevision + 1000n },
        { key: `${event.key}!` },
        { kind: event.kind === 'put' ? 'delete' : 'put' },
      ]);
      return changed(history, one, { events: one.record.events.with(at, { ...event, ...other }) });
    },
    'event-lost: a batch': (history, one) => {
      const next = history
        .slice(one.index + 1)
        .find((each) => 'watch' in each && each.watch === one.record.watch);
      // What ends, or lists anew, may have missed it.
      const goesOn = next?.is === 'watchBatch' && next.events.length > 0;
      return goesOn ? without(history, one.index) : undefined;
    },
    'event-lost: an event': (history, one, random) => {
      const { events } = one.record;
      const at = random.below(events.length - 1);
      return events.length < 2 ? undefined : changed(history, one, { events: events.toSpliced(at, 1) });
    },
    'event-repeated: a batch': (history, one) => inserted(history, one.index, one.record),
    'event-repeated: an event': (history, one, random) => {
      const { events } = one.record;
      const at = random.below(events.length);
      return changed(history, one, { events: events.toSpliced(at, 0, events[at] as Event) });
    },
    'event-reordered': (history, one, random) => {
      const { events } = one.record;
      if (events.length < 2) return undefined;
      const at = random.below(events.length - 1);
      const [first, second] = events.slice(at, at + 2) as unknown as [Event, Event];
      return changed(history, one, { events: events.toSpliced(at, 2, second, first) });
    },
    'header-behind': (history, one) => changed(history, one, { revision: 1n }),
    'progress-ahead': (history, one) => changed(history, one, { revision: 10_000n }),
    'resume-wrong': (history, one, random) =>
      changed(history, one, { nextRevision: random.chance(0.5) ? 1n : one.record.revision + 2n }),
    'revision-split': (history, one) => {
      const { events } = one.record;
      const [before, last] = events.slice(-2);
      if (last === undefined || before?.modRevision !== last.modRevision) return undefined;
      const { nextRevision: _, ...record } = one.record;
      return inserted(
        without(history, one.index),
        one.index,
        { ...record, events: events.slice(0, -1) },
        { ...record, events: [last] },
      );
    },
  };

  test('accepts what it does, and refuses it once it is spoilt', () => {
    const times = new Map<string, number>(Object.keys(spoilers).map((what) => [what, 0]));
    const count = (what: string): void => void times.set(what, (times.get(what) ?? 0) + 1);
    for (let seed = 0; seed < SEEDS; seed++) {
      const random = new Random(seed);
      const history = playWatches(random);
      assert.deepEqual(checkWatches(history), [], `seed ${seed}`);
      for (const [what, spoil] of Object.entries(spoilers)) {
        const batches = full(history);
        const spoilt = batches.length === 0 ? undefined : spoil(history, random.pick(batches), random);
        if (spoilt === undefined) continue;
        const found = rules(checkWatches(spoilt));
        assert.ok(found.includes(what.split(':')[0] ?? ''), `seed ${seed}: ${what}, not ${found.join()}`);
        count(what);
      }
      const snapshots = allOf(history, 'watchBatch').filter(
        ({ record }) => (record.snapshot?.length ?? 0) > 0,
      );
      if (snapshots.length === 0) continue;
      const one = random.pick(snapshots);
      const snapshot = one.record.snapshot?.slice(1) ?? [];
      assert.ok(
        rules(checkWatches(changed(history, one, { snapshot }))).includes('snapshot-wrong'),
        `seed ${seed}`,
      );
      count('snapshot-wrong');
    }
    for (const [what, often] of times) assert.ok(often > SEEDS / 5, `${what} was tried ${often} times`);
  });
});
