import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { type Evidence, judge } from '#conclave/cli/demo/verdict.js';

/** Four terms of two records each, a late write that was refused, and three handovers: nothing to complain of. */
function flawless(): Evidence {
  const tokens = [10n, 20n, 30n, 40n];
  const stored = tokens.flatMap((token, at) => [
    { number: at * 2 + 1, revision: token + 1n, token, worker: `w${at}` },
    { number: at * 2 + 2, revision: token + 2n, token, worker: `w${at}` },
  ]);
  return {
    effects: [{ jobId: 'job-1', token: 11n }],
    pushed: ['job-1'],
    acknowledged: stored.map((record) => ({ ...record, heldAt: Number(record.revision) * 10 })),
    handoverMs: { crash: 2, freeze: 3, resign: 1 },
    late: [{ accepted: false, revision: 35n, token: 20n }],
    lateStored: [],
    led: tokens.map((token, at) => ({ from: Number(token) * 10, token, worker: `w${at}` })),
    stored,
    troubles: [],
  };
}

describe("the demo's verdict", () => {
  it('finds nothing in a flawless run', () => {
    assert.deepEqual(judge(flawless()), {
      jobs: 1,
      jobsLost: 0,
      jobsTwice: 0,
      lostRecords: 0,
      ok: true,
      overlaps: 0,
      problems: [],
      records: 8,
      staleWritesAccepted: 0,
      staleWritesRejected: 1,
      terms: 4,
    });
  });

  it('finds a record that was confirmed but is not in the store', () => {
    const run = flawless();
    const verdict = judge({ ...run, stored: run.stored.slice(0, -1) });
    assert.equal(verdict.ok, false);
    assert.equal(verdict.lostRecords, 1);
  });

  it('finds a job that was pushed and never done, and a run without jobs', () => {
    const lost = judge({ ...flawless(), effects: [] });
    assert.equal(lost.jobsLost, 1);
    assert.equal(lost.ok, false);
    assert.equal(judge({ ...flawless(), effects: [], pushed: [] }).ok, false);
  });

  it('finds a job that was done twice, and takes no offence at one whose push was not confirmed', () => {
    const run = flawless();
    const twice = judge({ ...run, effects: [...run.effects, { jobId: 'job-1', token: 12n }] });
    assert.equal(twice.jobsTwice, 1);
    assert.equal(twice.ok, false);
    assert.equal(judge({ ...run, effects: [...run.effects, { jobId: 'job-2', token: 13n }] }).ok, true);
  });

  it('finds a record that was written over', () => {
    const run = flawless();
    const stored = run.stored.map((record) => (record.number === 3 ? { ...record, revision: 29n } : record));
    const verdict = judge({ ...run, stored });
    assert.equal(verdict.ok, false);
    assert.equal(verdict.lostRecords, 1);
  });

  it('finds a number that was left out, confirmed or not', () => {
    const run = flawless();
    const without = (number: number) => (record: { readonly number: number }) => record.number !== number;
    const verdict = judge({
      ...run,
      acknowledged: run.acknowledged.filter(without(3)),
      stored: run.stored.filter(without(3)),
    });
    assert.equal(verdict.ok, false);
    assert.equal(verdict.lostRecords, 1);
  });

  it('finds a record of an earlier term after one of a later term, which makes the terms overlap', () => {
    const run = flawless();
    const stored = [...run.stored, { number: 9, revision: 43n, token: 20n, worker: 'w1' }];
    const verdict = judge({ ...run, stored });
    assert.equal(verdict.ok, false);
    assert.equal(verdict.staleWritesAccepted, 1);
    assert.equal(verdict.overlaps, 2);
  });

  it('finds a term that began, by its token, before the one before it had ended', () => {
    const run = flawless();
    const stored = run.stored.map((record) => (record.number === 4 ? { ...record, revision: 30n } : record));
    const acknowledged = run.acknowledged.map((record) =>
      record.number === 4 ? { ...record, revision: 30n } : record,
    );
    const verdict = judge({ ...run, acknowledged, stored });
    assert.equal(verdict.ok, false);
    assert.equal(verdict.overlaps, 1);
    assert.equal(verdict.lostRecords, 0);
  });

  it('finds two workers that believed to lead at the same time', () => {
    const run = flawless();
    const acknowledged = run.acknowledged.map((record) =>
      record.number === 2 ? { ...record, heldAt: 201 } : record,
    );
    const verdict = judge({ ...run, acknowledged });
    assert.equal(verdict.ok, false);
    assert.equal(verdict.overlaps, 1);
  });

  it('finds a late write in a later term, whatever the worker was told, and one that etcd took', () => {
    const run = flawless();
    const landed = judge({ ...run, lateStored: [{ revision: 35n, token: 20n }] });
    assert.equal(landed.ok, false);
    assert.equal(landed.staleWritesAccepted, 1);
    assert.equal(landed.staleWritesRejected, 0);
    const taken = judge({ ...run, late: [{ accepted: true, revision: 30n, token: 20n }] });
    assert.equal(taken.ok, false);
    assert.equal(taken.staleWritesAccepted, 1);
    assert.equal(taken.lostRecords, 1);
  });

  it('takes no offence at a write of a term given up early that lands before the next term', () => {
    const run = flawless();
    const early = { revision: 19n, token: 10n };
    const verdict = judge({ ...run, late: [...run.late, { ...early, accepted: true }], lateStored: [early] });
    assert.equal(verdict.ok, true);
    assert.equal(verdict.staleWritesRejected, 1);
  });

  it('is not content with records and terms that no worker has reported', () => {
    const run = flawless();
    assert.equal(judge({ ...run, acknowledged: [], led: [] }).ok, false);
    const silent = judge({ ...run, led: run.led.slice(1) });
    assert.deepEqual(silent.problems, ['nobody said to have led the term 10']);
    const mute = judge({ ...run, acknowledged: run.acknowledged.slice(0, 3) });
    assert.deepEqual(mute.problems, ['5 records were reported by nobody']);
    // The last of each term may have been written by one who was killed then.
    const last = run.acknowledged.filter(({ number }) => number % 2 === 1);
    assert.equal(judge({ ...run, acknowledged: last }).ok, true);
    const early = judge({ ...run, handoverMs: { ...run.handoverMs, crash: -1 } });
    assert.deepEqual(early.problems, ['the handover after a crash took -1 ms']);
  });

  it('is not content with too few terms, no late write, a handover not seen, or trouble on the way', () => {
    const run = flawless();
    assert.equal(
      judge({ ...run, stored: run.stored.slice(0, 6), acknowledged: run.acknowledged.slice(0, 6) }).ok,
      false,
    );
    assert.equal(judge({ ...run, late: [] }).ok, false);
    assert.equal(judge({ ...run, handoverMs: { crash: 1, freeze: 1 } }).ok, false);
    assert.deepEqual(judge({ ...run, troubles: ['too slow'] }).problems, ['too slow']);
  });
});
