// The checker of queues: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkJobs, type HistoryRecord, type JobsOptions } from 'conclave/testing';

import { playJobs } from './job-model.js';
import { allOf, changed, type Found, Random, without } from './mutations.js';
import { type Draft, rules, timed } from './records.js';

const pushed = (
  job: string,
  revision: bigint | undefined,
  more: { group?: string; maxAttempts?: number; place?: number; priority?: number } = {},
): Draft => ({ is: 'pushed', job, process: 'P', revision, ...more });
const claimed = (process: string, claim: number, revision: bigint, job = 'j', attempt = 1): Draft => ({
  attempt,
  claim,
  is: 'claimed',
  job,
  process,
  revision,
});
const committed = (process: string, claim: number, revision: bigint, job = 'j'): Draft => ({
  claim,
  is: 'committed',
  job,
  process,
  revision,
});
const claimEnds = (process: string, claim: number, job = 'j'): Draft => ({
  claim,
  is: 'claimEnds',
  job,
  process,
});
const jobs = (...left: string[]): Draft => ({ is: 'jobs', jobs: left, process: 'etcd' });
const ended = (process: string, claim: number, how: 'failed' | 'handedBack' | 'lost'): Draft =>
  ({
    ...claimEnds(process, claim),
    how,
  }) as Draft;
const delayed = (revision: bigint, dueMs?: number): Draft => ({
  is: 'delayed',
  job: 'j',
  process: 'etcd',
  revision,
  ...(dueMs === undefined ? {} : { dueMs }),
});
const due = (revision: bigint, atMs?: number): Draft => ({
  is: 'due',
  job: 'j',
  process: 'etcd',
  revision,
  ...(atMs === undefined ? {} : { atMs }),
});
const buried = (revision: bigint): Draft => ({ is: 'buried', job: 'j', process: 'etcd', revision });
const retried = (revision: bigint): Draft => ({ is: 'retried', job: 'j', process: 'etcd', revision });
const pause = (is: 'paused' | 'resumed', revision: bigint): Draft => ({ is, process: 'etcd', revision });
const kept = (keepMs: number): Draft => ({ ...committed('A', 1, 4n), atMs: 100, keepMs }) as Draft;
const at = (atMs: number, draft: Draft): Draft => ({ ...draft, atMs });
const j = pushed('j', 2n);

function broken(drafts: readonly Draft[], options?: JobsOptions): string[] {
  return rules(checkJobs(timed(...drafts), options));
}

describe('checkJobs accepts', () => {
  test('a job that is done, waits, is buried, or perhaps was never pushed', () => {
    assert.deepEqual(broken([j, claimed('A', 1, 3n), committed('A', 1, 4n), jobs()]), []);
    assert.deepEqual(broken([j, jobs('j')]), []);
    assert.deepEqual(broken([j, { is: 'buried', job: 'j', process: 'A' }, jobs()]), []);
    assert.deepEqual(broken([pushed('j', undefined), jobs()]), []);
    assert.deepEqual(
      broken([pushed('j', undefined), claimed('A', 1, 3n), committed('A', 1, 4n), jobs()]),
      [],
    );
    assert.deepEqual(broken([jobs(), j]), [], 'pushed after the listing');
  });

  test('a job that goes on elsewhere after a failure, a crash, a loss, or while its worker is frozen', () => {
    const again = [claimed('B', 2, 5n, 'j', 2), committed('B', 2, 6n), jobs()];
    assert.deepEqual(broken([j, claimed('A', 1, 3n), claimEnds('A', 1), ...again]), []);
    assert.deepEqual(broken([j, claimed('A', 1, 3n), { is: 'crashed', process: 'A' }, ...again]), []);
    assert.deepEqual(broken([j, claimed('A', 1, 3n), { is: 'frozen', process: 'A' }, ...again]), []);
  });

  test('attempts that count up, or not after one was handed back, and from the beginning once it is retried', () => {
    const again = (attempt: number): Draft => claimed('B', 2, 5n, 'j', attempt);
    for (const how of ['failed', 'lost', 'handedBack'] as const)
      assert.deepEqual(broken([j, claimed('A', 1, 3n), ended('A', 1, how), again(2)]), []);
    assert.deepEqual(broken([j, claimed('A', 1, 3n), ended('A', 1, 'handedBack'), again(1)]), []);
    const dead = [j, claimed('A', 1, 3n, 'j', 2), ended('A', 1, 'failed'), buried(4n)];
    assert.deepEqual(broken([...dead, retried(5n), claimed('B', 2, 6n)]), []);
  });

  test('a delayed job that is claimed when it is due, by revisions or by the clock', () => {
    assert.deepEqual(broken([j, delayed(3n), due(4n), claimed('A', 1, 5n)]), []);
    assert.deepEqual(broken([j, delayed(3n, 20), at(20, claimed('A', 1, 5n))]), []);
    assert.deepEqual(
      broken([j, delayed(3n, 20), due(4n, 15), at(15, claimed('A', 1, 5n))], { skewMs: 5 }),
      [],
    );
    assert.deepEqual(
      broken([j, delayed(2n), due(3n), delayed(6n), claimed('A', 1, 5n)]),
      [],
      'its worker was told of the claim when it was delayed again',
    );
  });

  test('claims before and after a pause, told whenever', () => {
    const pauses = [pause('paused', 4n), pause('resumed', 6n)];
    assert.deepEqual(broken([j, ...pauses, claimed('A', 1, 3n)]), []);
    assert.deepEqual(broken([j, ...pauses, claimed('A', 1, 7n)]), []);
  });

  test('a job that is done and kept, and gone after that', () => {
    const done = [j, claimed('A', 1, 3n), kept(50)];
    assert.deepEqual(broken([...done, at(149, jobs('j')), at(150, jobs())]), []);
    assert.deepEqual(broken([...done, at(145, jobs())], { skewMs: 5 }), []);
  });

  test('jobs that are overtaken no more than they may be, and greater priorities first', () => {
    const three = [1, 2, 3].map((place) => pushed(`j${place}`, 2n, { place }));
    const order = (...names: string[]): Draft[] =>
      names.map((name, n) => claimed('A', n, 10n + BigInt(n), name));
    const claims = order('j3', 'j2', 'j1').flatMap((draft, n) => [draft, claimEnds('A', n, `j${3 - n}`)]);
    assert.deepEqual(broken([...three, ...claims], { maxOvertakes: 2 }), []);
    const late = [pushed('k', 9n, { priority: 1 }), claimed('A', 1, 10n, 'k'), claimEnds('A', 1, 'k')];
    assert.deepEqual(broken([j, ...late, claimed('A', 2, 12n)], { strictPriority: true }), []);
    assert.deepEqual(
      broken([j, claimed('A', 2, 4n), pushed('k', 9n, { priority: 1 })], { strictPriority: true }),
      [],
      'it was pushed later',
    );
    assert.deepEqual(
      broken([j, pushed('k', 3n, { priority: 1 }), claimed('A', 2, 4n)]),
      [],
      'unless it is asked for, nobody minds',
    );
  });

  test('groups in order and within their limits', () => {
    const options = { groupLimits: { g: 1 }, orderedGroups: ['g'] };
    const two = [pushed('j', 2n, { group: 'g' }), pushed('k', 3n, { group: 'g' })];
    assert.deepEqual(
      broken([...two, claimed('A', 1, 4n), committed('A', 1, 5n), claimed('A', 2, 6n, 'k')], options),
      [],
    );
    assert.deepEqual(broken([...two, claimed('A', 1, 4n), claimed('B', 2, 6n, 'k')]), [], 'without a limit');
  });
});

describe('checkJobs refuses', () => {
  test('a job that is gone, and one that nobody pushed', () => {
    assert.deepEqual(broken([j, jobs()]), ['job-lost']);
    assert.deepEqual(broken([j, claimed('A', 1, 3n), claimEnds('A', 1), jobs('k')]), ['job-lost']);
    assert.deepEqual(broken([claimed('A', 1, 3n)]), ['job-unknown']);
    assert.deepEqual(broken([j, buried(3n), retried(4n), jobs()]), ['job-lost']);
  });

  test('a job that is committed twice', () => {
    assert.deepEqual(broken([j, claimed('A', 1, 3n), committed('A', 1, 4n), committed('A', 1, 5n)]), [
      'committed-twice',
    ]);
    assert.deepEqual(
      broken([j, claimed('A', 1, 3n), committed('A', 1, 4n), claimed('B', 2, 5n), committed('B', 2, 6n)]),
      ['claimed-when-over', 'committed-twice'],
    );
  });

  test('a commit by a worker that had lost its claim to another, or had none', () => {
    assert.deepEqual(
      broken([
        j,
        claimed('A', 1, 3n),
        { is: 'frozen', process: 'A' },
        claimed('B', 2, 5n),
        committed('A', 1, 6n),
      ]),
      ['commit-not-fenced'],
    );
    assert.deepEqual(broken([j, committed('A', 1, 6n)]), ['commit-not-fenced']);
    assert.deepEqual(broken([j, claimed('A', 1, 7n), committed('A', 1, 6n)]), [
      'claimed-when-over',
      'commit-not-fenced',
    ]);
  });

  test('a job that two work at', () => {
    assert.deepEqual(broken([j, claimed('A', 1, 3n), claimed('B', 2, 5n)]), ['claimed-by-two']);
    assert.deepEqual(broken([j, claimed('A', 1, 3n), claimed('A', 2, 5n)]), ['claimed-by-two']);
  });

  test('one attempt too many', () => {
    assert.deepEqual(broken([pushed('j', 2n, { maxAttempts: 2 }), claimed('A', 1, 3n, 'j', 3)]), [
      'too-many-attempts',
    ]);
  });

  test('an attempt that failed and does not count, and attempts that fall', () => {
    const fall = ['attempts-fall'];
    assert.deepEqual(broken([j, claimed('A', 1, 3n), ended('A', 1, 'failed'), claimed('B', 2, 5n)]), fall);
    assert.deepEqual(broken([j, claimed('A', 1, 3n, 'j', 2), claimEnds('A', 1), claimed('B', 2, 5n)]), fall);
  });

  test('a delayed job that is claimed, or due, before its time', () => {
    const early = ['claimed-early'];
    assert.deepEqual(broken([j, delayed(3n), claimed('A', 1, 4n)]), early);
    assert.deepEqual(broken([j, delayed(3n), claimed('A', 1, 4n), due(5n)]), early);
    assert.deepEqual(broken([j, delayed(3n, 20), at(19, claimed('A', 1, 4n))]), early);
    assert.deepEqual(broken([j, delayed(3n, 20), due(4n, 19), claimed('A', 1, 5n)]), early);
    assert.deepEqual(broken([j, delayed(3n), due(4n), delayed(5n), claimed('A', 1, 6n)]), early);
  });

  test('a job that is claimed when it is done, or dead', () => {
    const over = ['claimed-when-over'];
    assert.deepEqual(broken([j, claimed('A', 1, 3n), committed('A', 1, 4n), claimed('B', 2, 5n)]), over);
    assert.deepEqual(broken([j, buried(4n), claimed('B', 2, 5n)]), over);
    assert.deepEqual(broken([j, buried(4n), claimed('B', 2, 5n), retried(6n)]), over);
  });

  test('a claim while the queue is paused', () => {
    assert.deepEqual(broken([j, pause('paused', 4n), claimed('A', 1, 5n)]), ['claimed-while-paused']);
    assert.deepEqual(broken([j, claimed('A', 1, 5n), pause('paused', 4n), pause('resumed', 6n)]), [
      'claimed-while-paused',
    ]);
  });

  test('a job that is forgotten before its time', () => {
    const done = [j, claimed('A', 1, 3n), kept(50)];
    assert.deepEqual(broken([...done, at(149, jobs()), at(149, jobs('j'))]), ['forgotten-early']);
    assert.deepEqual(broken([...done, at(110, jobs('j')), at(149, jobs())]), ['forgotten-early']);
  });

  test('a job that is overtaken too often, and a lower priority first', () => {
    const three = [1, 2, 3].map((place) => pushed(`j${place}`, 2n, { place }));
    const claims = [3, 2, 1].map((place) => claimed('A', place, 20n - BigInt(place), `j${place}`));
    assert.deepEqual(broken([...three, ...claims], { maxOvertakes: 1 }), ['overtaken']);
    assert.deepEqual(
      broken([...three, ...claims.slice(0, 2)], { maxOvertakes: 1 }),
      ['overtaken'],
      'never claimed',
    );
    const both = [j, pushed('k', 3n, { priority: 1 })];
    assert.deepEqual(broken([...both, claimed('A', 1, 4n)], { strictPriority: true }), ['priority']);
  });

  test('a group out of order, and one over its limit', () => {
    const two = [pushed('j', 2n, { group: 'g' }), pushed('k', 3n, { group: 'g' })];
    const claims = [claimed('A', 1, 4n, 'k'), claimed('B', 2, 5n, 'j')];
    assert.deepEqual(broken([...two, ...claims], { orderedGroups: ['g'] }), ['group-order']);
    assert.deepEqual(broken([...two, ...claims], { groupLimits: { g: 1 } }), ['group-limit']);
    assert.deepEqual(broken([...two, ...claims], { groupLimits: { g: 2 } }), []);
  });

  test('options that it does not know', () => {
    assert.throws(() => checkJobs([], { limits: {} } as JobsOptions), /unknown option/);
  });
});

describe('checkJobs, of histories by a model', () => {
  const SEEDS = 150;
  const options: JobsOptions = { maxOvertakes: 0, strictPriority: true };
  type Spoiler = (history: HistoryRecord[], random: Random) => HistoryRecord[] | undefined;
  const some = <T>(
    from: readonly T[],
    random: Random,
    spoil: (one: T) => HistoryRecord[],
  ): HistoryRecord[] | undefined => (from.length === 0 ? undefined : spoil(random.pick(from)));
  const claimsOf = (history: readonly HistoryRecord[], job: string): Found<'claimed'>[] =>
    allOf(history, 'claimed').filter(({ record }) => record.job === job);

  const spoilers: Readonly<Record<string, Spoiler>> = {
    'attempts-fall': (history, random) => {
      const again = allOf(history, 'claimed').filter(({ record }) => record.attempt > 1);
      return some(again, random, (one) => changed(history, one, { attempt: 0 }));
    },
    'claimed-by-two': (history, random) =>
      some(allOf(history, 'claimed'), random, ({ index, record }) =>
        history.toSpliced(index + 1, 0, { ...record, claim: 10_000, process: 'another' }),
      ),
    'claimed-early': (history, random) =>
      some(
        allOf(history, 'due').filter(({ record }) =>
          claimsOf(history, record.job).some((claim) => claim.record.revision > record.revision),
        ),
        random,
        ({ index }) => without(history, index),
      ),
    'claimed-when-over': (history, random) =>
      some(allOf(history, 'committed'), random, ({ record }) => [
        ...history,
        { ...record, attempt: 9, claim: 10_000, is: 'claimed', revision: 10_000n },
      ]),
    'claimed-while-paused': (history, random) => {
      const claims = allOf(history, 'claimed');
      return some(claims, random, ({ record }) => [
        ...history,
        { atMs: 1e6, is: 'paused', process: 'etcd', revision: record.revision - 1n },
      ]);
    },
    'commit-not-fenced': (history, random) =>
      some(allOf(history, 'committed'), random, (one) => changed(history, one, { revision: 1n })),
    'committed-twice': (history, random) =>
      some(allOf(history, 'committed'), random, ({ record }) => [...history, record]),
    'forgotten-early': (history, random) =>
      some(
        allOf(history, 'committed').filter(({ record }) => record.keepMs !== undefined),
        random,
        (one) => [
          ...changed(history, one, { keepMs: 1e6 }),
          { atMs: 1e5, is: 'jobs', jobs: [], process: 'etcd' },
        ],
      ),
    'job-lost': (history, random) => {
      const there = allOf(history, 'jobs').at(-1)?.record.jobs ?? [];
      const gone = allOf(history, 'committed').filter(({ record }) => !there.includes(record.job));
      return some(gone, random, ({ index }) => without(history, index));
    },
    'job-unknown': (history, random) =>
      some(allOf(history, 'claimed'), random, ({ record }) =>
        without(history, allOf(history, 'pushed').find((one) => one.record.job === record.job)?.index ?? 0),
      ),
    'too-many-attempts': (history, random) =>
      some(allOf(history, 'claimed'), random, (one) => changed(history, one, { attempt: 99 })),
    overtaken: (history, random) => {
      const waiting = allOf(history, 'pushed').filter(
        ({ record }) => record.place !== undefined && claimsOf(history, record.job).length > 0,
      );
      return some(waiting, random, ({ index, record }) => {
        const other = `${record.job}, before it`;
        const place = (record.place ?? 0) - 0.5;
        return history.toSpliced(index, 0, { ...record, job: other, place });
      });
    },
    priority: (history, random) => {
      const claims = allOf(history, 'claimed').filter(
        ({ index, record }) => claimsOf(history, record.job)[0]?.index === index,
      );
      return some(claims, random, ({ index, record }) =>
        history.toSpliced(index, 0, {
          ...record,
          is: 'pushed',
          job: 'urgent',
          priority: 100,
          revision: record.revision - 1n,
        }),
      );
    },
  };

  test('accepts what it does, and refuses it once it is spoilt', () => {
    const times = new Map(Object.keys(spoilers).map((what) => [what, 0]));
    for (let seed = 0; seed < SEEDS; seed++) {
      const random = new Random(seed);
      const history = playJobs(random);
      assert.deepEqual(checkJobs(history, options), [], `seed ${seed}`);
      for (const [rule, spoil] of Object.entries(spoilers)) {
        const spoilt = spoil(history, random);
        if (spoilt === undefined) continue;
        const found = rules(checkJobs(spoilt, options));
        assert.ok(found.includes(rule), `seed ${seed}: ${rule}, not ${found.join()}`);
        times.set(rule, (times.get(rule) ?? 0) + 1);
      }
    }
    for (const [what, often] of times) assert.ok(often > SEEDS / 5, `${what} was tried ${often} times`);
  });
});
