// The checker of queues: what it must accept, and each kind of history that it must refuse.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { checkJobs, type JobsOptions } from 'conclave/testing';

import { type Draft, rules, timed } from './records.js';

const pushed = (
  job: string,
  revision: bigint | undefined,
  more: { group?: string; maxAttempts?: number } = {},
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
  });

  test('a job that is committed twice', () => {
    assert.deepEqual(broken([j, claimed('A', 1, 3n), committed('A', 1, 4n), committed('A', 1, 5n)]), [
      'committed-twice',
    ]);
    assert.deepEqual(
      broken([j, claimed('A', 1, 3n), committed('A', 1, 4n), claimed('B', 2, 5n), committed('B', 2, 6n)]),
      ['committed-twice'],
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
    assert.deepEqual(broken([j, claimed('A', 1, 7n), committed('A', 1, 6n)]), ['commit-not-fenced']);
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
