// DoubleBarrier against processes that are killed at random steps. The store's own history is the referee.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import type { Client, KeyValue } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { Child, randomFrom, seedFrom } from '../support/children.js';
import { until } from '../support/until.js';
import type { PartyInput, PartyReport } from './party-child.js';

const COUNT = 3;
const PARTIES = 6;
/** What must have happened before the parties are told to finish. */
const LEAST = { killed: 3, rounds: 20 } as const;

interface Round {
  /** The create revision of the last of its parties. */
  readonly revision: bigint;
  /** The revision at which it was declared full. */
  readonly declaredAt: bigint;
}

/** Every round of the name, as the watch of `ready` tells. */
function followRounds(
  client: Client,
  key: string,
): { readonly rounds: Round[]; readonly created: Promise<unknown>; end(): void } {
  const rounds: Round[] = [];
  const watcher = client.watch(key);
  void (async () => {
    for await (const { events } of watcher) {
      for (const { type, kv } of events) {
        const revision = type === 'put' ? BigInt(kv.string().split(' ')[1] ?? 0) : 0n;
        if (revision > 0n && rounds.at(-1)?.revision !== revision)
          rounds.push({ declaredAt: kv.modRevision, revision });
      }
    }
  })();
  return { created: watcher.created, end: () => watcher.close(), rounds };
}

/** Checks that the round's `count` parties were there at one revision, with nobody of an earlier round left. */
async function checkRound(client: Client, prefix: string, round: Round, before: bigint): Promise<void> {
  let kvs: readonly KeyValue[] = [];
  for (let revision = round.declaredAt; revision >= round.revision; revision--) {
    ({ kvs } = await client.kv.range({ prefix }, { keysOnly: true, revision }));
    const members = kvs.filter((kv) => kv.createRevision <= round.revision);
    if (members.length === COUNT && members.every((kv) => kv.createRevision > before)) return;
  }
  assert.fail(
    `round ${round.revision} was declared at ${round.declaredAt} without ${COUNT} parties: ${kvs.map((kv) => `${kv.key}@${kv.createRevision}`).join(', ')}`,
  );
}

/** Nobody was inside before all had begun to enter; nobody had left before all who lived had begun to leave. */
function checkOrder(reports: readonly PartyReport[], dead: ReadonlySet<number>): number {
  const byRound = new Map<string, PartyReport[]>();
  for (const report of reports) {
    if (report.step === 'entering' || report.step === 'gave up') continue;
    byRound.set(report.round, [...(byRound.get(report.round) ?? []), report]);
  }
  let complete = 0;
  for (const [round, ofRound] of byRound) {
    const parties = new Set(ofRound.map(({ party }) => party));
    assert.ok(parties.size <= COUNT, `round ${round} has ${parties.size} parties`);
    const times = (step: PartyReport['step'], of = ofRound): bigint[] =>
      of.filter((report) => report.step === step).map(({ at }) => BigInt(at));
    const firstInside = times('inside').sort((a, b) => (a < b ? -1 : 1))[0];
    for (const party of parties) {
      const entered = reports
        .filter((r) => r.party === party && r.step === 'entering')
        .map((r) => BigInt(r.at));
      assert.ok(entered.some((at) => firstInside === undefined || at <= firstInside));
    }
    const firstLeft = times('left').sort((a, b) => (a < b ? -1 : 1))[0];
    if (firstLeft === undefined) continue;
    const living = ofRound.filter(({ party, step }) => step === 'inside' && !dead.has(party));
    for (const { party } of living) {
      const leaving = times(
        'leaving',
        ofRound.filter((report) => report.party === party),
      )[0];
      assert.ok(
        leaving !== undefined && leaving <= firstLeft,
        `round ${round} was left while ${party} was inside`,
      );
    }
    if (times('left').length === COUNT) complete += 1;
  }
  return complete;
}

onEachBackend('DoubleBarrier under kill -9', (backend) => {
  const seed = seedFrom('CONCLAVE_BARRIER_SEED');

  it(`keeps its rounds whole and apart while parties are killed (CONCLAVE_BARRIER_SEED=${seed})`, async (t) => {
    t.diagnostic(`CONCLAVE_BARRIER_SEED=${seed}`);
    const random = randomFrom(seed);
    const client = backend.client();
    const name = 'crash';
    const prefix = `${name}/.double-barrier/`;
    const following = followRounds(client, `${prefix}ready`);
    await following.created;
    const reports: PartyReport[] = [];
    const dead = new Set<number>();
    const living = new Set<Child<PartyReport>>();
    let over = false;
    const start = async (): Promise<void> => {
      while (!over) {
        const party = Math.floor(random() * 1e9);
        const input: PartyInput = {
          count: COUNT,
          deadliness: random() < 0.5 ? 0.04 : 0.005,
          endpoints: backend.endpoints,
          name,
          seed: party,
        };
        const child = new Child<PartyReport>(import.meta.url, './party-child.js', input, (report) =>
          reports.push(report),
        );
        living.add(child);
        const code = await child.ended();
        living.delete(child);
        if (code !== 0) dead.add(party);
        if (code !== 0 && code !== null) assert.fail(`party ${party} failed with code ${code}`);
      }
    };
    t.after(() => {
      for (const child of living) child.kill();
    });
    const parties = Array.from({ length: PARTIES }, start);
    await until(() => dead.size >= LEAST.killed && following.rounds.length >= LEAST.rounds, {
      timeoutMs: 60_000,
      what: `${LEAST.killed} are killed, and ${LEAST.rounds} rounds full`,
    });
    over = true;
    for (const child of living) child.finish();
    await Promise.all(parties);
    // The dead are gone once their leases have ended.
    await until(async () => (await client.lease.list()).length === 0, { what: 'the leases of the dead end' });
    const { revision } = await client.kv.range({ prefix });
    following.end();

    t.diagnostic(`${following.rounds.length} rounds, ${dead.size} killed, at revision ${revision}`);
    const complete = checkOrder(reports, dead);
    for (const [at, round] of following.rounds.entries()) {
      await checkRound(client, `${prefix}party/`, round, following.rounds[at - 1]?.revision ?? 0n);
    }
    const known = new Set(following.rounds.map((round) => String(round.revision)));
    for (const { round, step } of reports) assert.ok(step !== 'inside' || known.has(round), round);
    assert.ok(complete > 0, 'no round was ever left by all of its parties');
    assert.equal((await client.kv.range({ prefix: `${prefix}party/` })).count, 0n);
    // When all parties die, `ready` stays until the next round has ended.
    await client.kv.delete({ prefix });
  });
});
