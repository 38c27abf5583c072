// The checker of holds that may be together: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkMutualExclusion, checkQueueing, checkSharedHolds } from 'conclave/testing';

import { allOf, changed, moved, Random, without } from './mutations.js';
import { attemptOf, type Draft, rules, timed } from './records.js';
import { type Kind, playShared } from './shared-model.js';

/** An attempt on `x`, with what it asks for. */
function sharing(process: string, attempt: number, share: object, from?: number) {
  const plain = attemptOf(process, attempt);
  const asked = from === undefined ? share : { ...share, from };
  return {
    ...plain,
    acquire: { ...plain.acquire, ...asked } as Draft,
    held: (token: bigint) => ({ ...plain.held(token), ...share }) as Draft,
  };
}

const read = (process: string, attempt: number, from?: number) =>
  sharing(process, attempt, { mode: 'read' }, from);
const write = (process: string, attempt: number, from?: number) =>
  sharing(process, attempt, { mode: 'write' }, from);
const permit = (process: string, attempt: number, weight: number) => sharing(process, attempt, { weight });
const limit = (to: number | undefined, revision: bigint): Draft => ({
  is: 'limit',
  limit: to,
  name: 'x',
  process: 'etcd',
  revision,
});
const frozen = (process: string): Draft => ({ is: 'frozen', process });
const thawed = (process: string): Draft => ({ is: 'thawed', process });

const [a, b] = [read('A', 1), read('B', 2)];
const [w, v] = [write('W', 3), write('V', 4)];

function broken(...drafts: readonly Draft[]): string[] {
  const violations = checkSharedHolds(timed(...drafts));
  for (const { at } of violations) assert.ok(at.length > 0, 'it shows records');
  return rules(violations);
}

describe('checkSharedHolds accepts', () => {
  test('readers together, of the same token, and a writer after them', () => {
    assert.deepEqual(broken(), []);
    assert.deepEqual(
      broken(a.held(3n), b.held(3n), a.write(4n), b.write(5n), a.release, b.release, w.held(7n), w.write(8n)),
      [],
    );
  });

  test('readers that are told in another order than that of their tokens', () => {
    assert.deepEqual(broken(a.held(5n), a.release, b.acquire, b.held(4n)), []);
  });

  test('an upgrade and a downgrade, and what is held beside them', () => {
    const up = write('A', 5, 1);
    const down = read('A', 6, 5);
    assert.deepEqual(
      broken(
        a.held(3n),
        a.write(4n),
        b.held(5n),
        b.write(6n),
        b.release,
        up.acquire,
        up.held(8n),
        up.write(9n),
        up.release,
        down.acquire,
        b.held(10n),
        down.held(10n),
        down.write(11n),
        down.lossSignal,
        { ...down.gone(12n) },
        a.gone(12n),
        up.gone(12n),
        w.held(13n),
      ),
      [],
    );
  });

  test('an upgrade that is given up, under which the reader reads on', () => {
    const up = write('A', 5, 1);
    assert.deepEqual(broken(a.held(3n), b.held(3n), up.acquire, up.gaveUp, a.write(9n), b.write(10n)), []);
  });

  test('permits within the limit, before and after it changes', () => {
    const [p, q, r] = [permit('P', 1, 2), permit('Q', 2, 1), permit('R', 3, 2)];
    assert.deepEqual(broken(limit(3, 2n), p.held(3n), q.held(4n), p.release, r.acquire, r.held(6n)), []);
    assert.deepEqual(broken(limit(3, 2n), p.held(3n), limit(5, 4n), r.held(5n), q.held(6n)), []);
    assert.deepEqual(
      broken(limit(3, 2n), p.acquire, p.held(3n), q.acquire, limit(1, 4n), q.held(5n)),
      [],
      'one that asked before it shrank may have been let in before',
    );
    assert.deepEqual(broken(p.held(3n), r.held(4n)), [], 'without a limit nobody can tell');
  });

  test('one that is frozen, told when it is woken', () => {
    assert.deepEqual(
      broken(a.held(3n), frozen('A'), a.gone(5n), w.held(6n), w.write(7n), thawed('A'), a.lossSignal),
      [],
    );
  });

  test('names that are not shared, whatever they are', () => {
    const [c, d] = [attemptOf('C', 1), attemptOf('D', 2)];
    assert.deepEqual(broken(c.held(3n), d.held(3n)), []);
    assert.deepEqual(
      checkMutualExclusion(timed(a.held(3n), b.held(3n))),
      [],
      'nor the other one those that are',
    );
  });
});

describe('checkSharedHolds refuses', () => {
  test('a reader beside a writer, and two writers', () => {
    const overlap = ['holds-overlap'];
    assert.deepEqual(broken(a.held(3n), w.held(7n)), overlap);
    assert.deepEqual(broken(w.held(3n), a.held(7n)), overlap);
    assert.deepEqual(broken(w.held(3n), v.held(7n)), overlap);
    assert.deepEqual(broken(a.held(3n), b.held(3n), a.release, w.held(7n)), overlap, 'one of two has left');
    assert.deepEqual(broken(a.held(3n), attemptOf('M', 9).held(7n)), overlap, 'a plain Mutex is a writer');
  });

  test('a freeze that does not bear on it is no excuse', () => {
    assert.deepEqual(broken(frozen('A'), thawed('A'), a.held(3n), w.held(7n)), ['holds-overlap']);
    assert.deepEqual(broken(a.held(3n), frozen('B'), w.held(7n)), ['holds-overlap']);
  });

  test('a guarded write of a reader when a writer has it, and the other way round', () => {
    const interleave = ['holds-interleave'];
    const asleep = [frozen('A'), a.gone(), w.held(7n), w.write(8n), thawed('A'), a.lossSignal];
    assert.deepEqual(broken(a.held(3n), ...asleep, a.write(9n)), interleave);
    assert.deepEqual(
      broken(a.held(3n), b.held(3n), a.write(7n), a.release, b.release, w.held(7n)),
      interleave,
    );
    assert.deepEqual(broken(w.held(3n), w.write(7n), w.release, a.held(6n)), interleave);
  });

  test('a guarded write outside of its own hold', () => {
    const outside = ['guarded-write-outside'];
    assert.deepEqual(broken(a.held(3n), a.write(3n)), outside);
    assert.deepEqual(broken(a.held(3n), a.write(9n), a.lossSignal, a.gone(8n)), outside);
    const up = write('A', 5, 1);
    assert.deepEqual(
      broken(a.held(3n), up.acquire, up.held(8n), a.write(9n)),
      outside,
      'it is no reader any more',
    );
  });

  test('tokens that repeat or fall where holds exclude each other', () => {
    const fall = ['tokens-increase'];
    assert.deepEqual(broken(w.held(5n), w.release, a.acquire, a.held(4n)), fall);
    assert.deepEqual(broken(a.held(5n), a.release, w.acquire, w.held(4n)), fall);
    assert.deepEqual(broken(w.held(5n), w.release, v.acquire, v.held(4n)), fall);
    assert.deepEqual(broken(w.held(5n), w.release, a.acquire, a.held(5n)), ['holds-interleave', ...fall]);
    const [p, q] = [permit('P', 1, 2), permit('Q', 2, 2)];
    assert.deepEqual(broken(limit(3, 2n), p.held(5n), p.release, q.acquire, q.held(4n)), fall);
  });

  test('an upgrade to a token that is not above its own, and one that a writer got in between', () => {
    const up = write('A', 5, 1);
    assert.deepEqual(broken(a.held(5n), up.acquire, up.held(4n)), ['tokens-increase']);
    assert.deepEqual(
      broken(a.held(3n), frozen('A'), w.held(5n), w.release, thawed('A'), up.acquire, up.held(8n)),
      ['holds-interleave'],
    );
    assert.deepEqual(broken(a.held(3n), b.held(3n), up.acquire, up.held(8n)), ['holds-overlap']);
    assert.deepEqual(broken(a.held(3n), b.held(3n), b.write(8n), b.release, up.acquire, up.held(8n)), [
      'holds-interleave',
    ]);
  });

  test('a downgrade that somebody got in before', () => {
    const down = read('W', 5, 3);
    assert.deepEqual(broken(w.held(3n), w.release, down.acquire, v.held(5n), v.release, down.held(8n)), [
      'holds-interleave',
    ]);
    assert.deepEqual(broken(w.held(3n), w.release, down.acquire, a.held(5n), down.held(8n)), [
      'holds-interleave',
    ]);
    assert.deepEqual(broken(w.held(3n), w.release, down.acquire, down.held(8n), v.held(9n)), [
      'holds-overlap',
    ]);
  });

  test('more permits than there are', () => {
    const [p, q, r] = [permit('P', 1, 2), permit('Q', 2, 1), permit('R', 3, 1)];
    const over = ['holds-interleave', 'over-limit'];
    assert.deepEqual(broken(limit(3, 2n), p.held(3n), q.held(4n), r.held(5n)), ['over-limit']);
    assert.deepEqual(
      broken(limit(3, 2n), p.held(3n), q.held(4n), p.write(5n), q.write(6n), r.held(5n)),
      over,
    );
    assert.deepEqual(
      broken(limit(4, 2n), p.held(3n), q.held(4n), limit(3, 5n), r.acquire, r.held(6n)),
      ['over-limit'],
      'it asked when the limit had shrunk',
    );
    assert.deepEqual(
      broken(limit(1, 2n), limit(undefined, 3n), r.acquire, r.held(5n)),
      over,
      'there is none any more',
    );
    assert.deepEqual(
      broken(limit(9, 2n), q.held(3n), attemptOf('M', 9).held(4n)),
      ['holds-overlap'],
      'a Mutex needs all',
    );
  });

  test('permits that are over the limit by revisions, though nobody knew', () => {
    const [p, q] = [permit('P', 1, 1), permit('Q', 2, 1)];
    const asleep = [frozen('P'), p.gone(), q.held(5n), thawed('P'), p.lossSignal, p.write(6n)];
    assert.deepEqual(broken(limit(1, 2n), p.held(3n), ...asleep), ['holds-interleave']);
  });

  test('a loss that is told late', () => {
    assert.deepEqual(broken(a.held(3n), a.gone(7n), a.lossSignal), ['loss-told-late']);
    assert.deepEqual(broken(a.held(3n), frozen('A'), a.gone(7n), thawed('A'), a.write(undefined)), [
      'write-before-loss-told',
    ]);
  });
});

describe('checkQueueing of shared holds', () => {
  const fifo = (...drafts: readonly Draft[]): string[] =>
    rules(checkQueueing(timed(...drafts), { ttlMs: 1000 }));

  test('minds the order only of those that exclude each other', () => {
    assert.deepEqual(fifo(a.acquire, a.queued(3n), b.acquire, b.queued(4n), b.held(5n), a.held(6n)), []);
    assert.deepEqual(fifo(w.acquire, w.queued(3n), b.acquire, b.queued(4n), b.held(5n), w.held(6n)), [
      'fifo',
    ]);
    const [p, q] = [permit('P', 1, 1), permit('Q', 2, 1)];
    const both = [p.acquire, p.queued(3n), q.acquire, q.queued(4n), q.held(5n), p.held(6n)];
    assert.deepEqual(fifo(limit(2, 2n), ...both), []);
    assert.deepEqual(fifo(limit(1, 2n), ...both), ['fifo']);
  });
});

describe('checkSharedHolds, of histories by a model', () => {
  const kinds: readonly Kind[] = [{ is: 'lock' }, { is: 'semaphore', limit: 3 }];
  const SEEDS = 150;

  for (const kind of kinds)
    test(`accepts what a ${kind.is} does, and refuses it once it is spoilt`, () => {
      const refused = { beside: 0, late: 0, outside: 0, repeated: 0 };
      for (let seed = 0; seed < SEEDS; seed++) {
        const random = new Random(seed);
        const history = playShared(random, kind);
        assert.deepEqual(checkSharedHolds(history), [], `seed ${seed}`);
        assert.deepEqual(rules(checkQueueing(history, { ttlMs: 1e6 })), [], `seed ${seed}`);
        const held = allOf(history, 'held');
        if (held.length < 4) continue;
        const spoilt = (what: string, rule: string, by: ReturnType<typeof playShared>): void => {
          assert.ok(rules(checkSharedHolds(by)).includes(rule), `seed ${seed}, ${what}: ${rule} is seen`);
        };
        // One that had all of it, or as much as excludes itself, writes on when the next one has it.
        const heavy = held.filter(({ record }) => record.mode === 'write' || (record.weight ?? 0) > 3);
        if (heavy.length > 0) {
          const one = random.pick(heavy);
          const twin = { ...one.record, attempt: 10_000, process: 'twin', token: one.record.token + 1n };
          if (one.record.mode === 'write') {
            spoilt('a twin', 'holds-overlap', history.toSpliced(one.index + 1, 0, twin));
            refused.beside++;
          }
          const again = { ...twin, token: one.record.token };
          spoilt('its token again', 'tokens-increase', [...history, again]);
          refused.repeated++;
        }
        const write = allOf(history, 'guardedWrite').filter(({ record }) => record.revision !== undefined);
        if (write.length > 0) {
          spoilt(
            'a write before',
            'guarded-write-outside',
            changed(history, random.pick(write), { revision: 1n }),
          );
          refused.outside++;
        }
        const told = allOf(history, 'lossSignal').filter(({ index, record }) => {
          const gone = history[index + 1];
          return gone?.is === 'gone' && gone.attempt === record.attempt;
        });
        if (told.length > 0) {
          const { index } = random.pick(told);
          spoilt('a loss told late', 'loss-told-late', moved(history, index, index + 1));
          spoilt('a loss told never', 'loss-told-late', without(history, index));
          refused.late++;
        }
      }
      const { beside, ...others } = refused;
      assert.ok(
        Object.values(others).every((times) => times > SEEDS / 4),
        JSON.stringify(refused),
      );
      if (kind.is === 'lock') assert.ok(beside > SEEDS / 4);
    });
});
