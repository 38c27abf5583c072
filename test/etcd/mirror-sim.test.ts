/**
 * Mirrors in simulated worlds, against what etcd has really committed: mirrors that are killed and replaced, two at once,
 * frozen ones, members that go, lag or fall silent, cut and slow connections, requests that arrive late, compaction, and an
 * etcd that comes back as it was. Whenever the target says that it is what the source was at a revision, it is.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Client, hasCode, op } from 'conclave';
import { type SimProcess, World } from 'conclave/testing';
import { Random } from '../faults/random.js';

const WORLDS = 6;
const RUN_MS = 20_000;
const SETTLE_MS = 60_000;
const KEYS = 6;
const FROM = 'from/';
const TO = 'to/';
const PROGRESS = `.conclave/mirror/${TO}`;

/** What is below a prefix, as text that is the same for the same. */
const textOf = (all: ReadonlyMap<string, string>, prefix: string): string =>
  JSON.stringify(
    [...all]
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, value]) => [key.slice(prefix.length), value])
      .sort(),
  );

/** What the target says of itself. */
interface Said {
  readonly phase: string;
  readonly revision: string;
  readonly part?: object;
  readonly copy: string;
}

/** All that was committed, as the server itself tells, and what is wrong with it. */
class Truth {
  readonly counts = { claims: 0, parts: 0 };
  readonly copies = new Set<string>();
  wrong: string | undefined;
  /** All keys at each revision. */
  #stores = new Map<bigint, ReadonlyMap<string, string>>([[1n, new Map()]]);
  #now: ReadonlyMap<string, string> = new Map();
  #revision = 1n;
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
    world.server.onCommit((revision, changes) => {
      const now = new Map(this.#now);
      for (const { deleted, key, value } of changes) {
        if (deleted) now.delete(key.toString());
        else now.set(key.toString(), value.toString());
      }
      this.#now = now;
      this.#revision = revision;
      this.#stores.set(revision, now);
      if (changes.some(({ deleted, key }) => !deleted && key.toString() === PROGRESS)) this.#judge();
    });
  }

  get revision(): bigint {
    return this.#revision;
  }

  get isSame(): boolean {
    return textOf(this.#now, FROM) === textOf(this.#now, TO);
  }

  goBack(): void {
    const revision = this.#revision / 2n;
    this.#stores = new Map([...this.#stores].filter(([at]) => at <= revision));
    this.#now = this.#stores.get(revision) ?? new Map();
    this.#revision = revision;
    this.#world.server.restart({ revision });
  }

  #judge(): void {
    const said = JSON.parse(this.#now.get(PROGRESS) ?? '{}') as Said;
    this.copies.add(said.copy);
    if (said.part !== undefined) this.counts.parts += 1;
    if (said.phase !== 'following' || said.part !== undefined) return;
    this.counts.claims += 1;
    const source = this.#stores.get(BigInt(said.revision));
    const [wanted, found] = [source && textOf(source, FROM), textOf(this.#now, TO)];
    if (wanted !== found)
      this.wrong ??= `at ${this.#revision}: the source was ${wanted} at ${said.revision}, the target is ${found}`;
  }
}

/** One world: mirrors in it, and all that goes wrong. */
async function play(seed: number) {
  await using world = new World(seed);
  const { random } = world;
  const truth = new Truth(world);
  /** Who has not asked yet since etcd came back: a history that has grown past what they saw is not told apart. */
  const unaware = new Set<SimProcess>();
  let era = 0;
  let fault: unknown;
  let killed = 0;
  const pause = (process: SimProcess, ms: number): Promise<void> =>
    new Promise((resolve) => void process.clock.setTimer(ms, () => resolve()));
  const passing = async (work: Promise<unknown>): Promise<void> => {
    try {
      await work;
    } catch (error) {
      if (!hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'UNKNOWN_OUTCOME', 'NO_LEADER')) throw error;
    }
  };

  const write = async (client: Client, process: SimProcess): Promise<void> => {
    for (let at = 0; world.nowMs < RUN_MS; at++) {
      const prefix = random.below(4) === 0 ? 'elsewhere/' : FROM;
      const key = `${prefix}${random.below(KEYS)}`;
      const value = `${process.name} ${at}`;
      const kind = random.below(6);
      if (kind === 0) await passing(client.kv.delete(key));
      else if (kind === 1) await passing(client.kv.delete({ prefix }));
      else if (kind < 4) {
        const keys = Array.from({ length: 1 + random.below(KEYS) }, (_, of) => `${prefix}${of}`);
        await passing(client.kv.txn({ then: keys.map((each) => op.put(each, value)) }));
      } else await passing(client.kv.put(key, value));
      do await pause(process, 20 + random.below(200));
      while (unaware.size > 0);
    }
  };

  const mirror = async (client: Client, process: SimProcess): Promise<void> => {
    const looking = (async () => {
      for (;;) {
        const before = era;
        await passing(client.kv.get('x').then(() => before === era && unaware.delete(process)));
        await pause(process, 100);
      }
    })();
    const maxTxnOps = random.below(2) === 0 ? 4 : 128;
    await Promise.all([
      looking,
      client.mirror({ prefix: FROM }, { maxTxnOps, prefix: TO, to: client }).run(),
    ]);
  };

  const start = (name: string, work: (client: Client, process: SimProcess) => Promise<void>): SimProcess => {
    const process = world.process(name);
    work(world.client(process), process).catch((error: unknown) => {
      if (!hasCode(error, 'CLOSED')) fault ??= error;
    });
    return process;
  };
  start('w1', write);
  start('w2', write);
  const mirrors = [start('m1', mirror), start('m2', mirror)];
  const some = () => mirrors[random.below(2)] ?? assert.fail();
  const member = () => world.members[random.below(3)] ?? assert.fail();
  const forAWhile = (begin: () => void, end: () => void): void => {
    begin();
    world.timeline.after(500 + random.below(2000), end);
  };
  const compact = (): void => {
    const { store } = world.server.member;
    if (store.revision > store.compactedRevision) store.compact(store.revision);
  };
  const replace = (): void => {
    const at = random.below(2);
    const old = mirrors[at] ?? assert.fail();
    world.kill(old);
    unaware.delete(old);
    killed += 1;
    mirrors[at] = start(`m${3 + killed}`, mirror);
  };
  const away = (): void => {
    const frozen = mirrors.filter(() => random.below(3) > 0);
    forAWhile(
      () => {
        for (const each of frozen) {
          each.freeze();
          world.network.cut({ process: each });
        }
      },
      () => {
        if (random.below(2) === 0) compact();
        for (const each of frozen) each.thaw();
      },
    );
  };
  const faults: readonly (() => void)[] = [
    () => world.network.cut(),
    () => world.network.cut({ process: some() }),
    () =>
      (world.network.weather = { cuts: 0.03, late: 0.4, latencyMs: [0.2, random.below(2) === 0 ? 5 : 100] }),
    () => (world.network.weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] }),
    replace,
    replace,
    away,
    compact,
    () => {
      const one = member();
      const state = random.below(2) === 0 ? 'down' : 'silent';
      forAWhile(
        () => (one.state = state),
        () => (one.state = 'up'),
      );
    },
    () => {
      const one = member();
      forAWhile(
        () => (one.lags = true),
        () => (one.lags = false),
      );
    },
  ];
  for (let at = 1000; at < RUN_MS; at += 300 + random.below(600)) {
    const kind = random.below(faults.length);
    world.timeline.at(at, () => faults[kind]?.());
  }
  if (random.below(2) === 0) {
    world.timeline.at(RUN_MS / 2, () => {
      for (const each of world.members) each.lags = false;
      for (const each of mirrors) unaware.add(each);
      era += 1;
      truth.goBack();
    });
  }
  await world.run(RUN_MS);
  world.network.weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] };
  await world.run(SETTLE_MS, () => truth.isSame && world.nowMs > RUN_MS + 5000);
  if (fault !== undefined) throw fault;
  assert.equal(truth.wrong, undefined);
  assert.ok(truth.isSame, 'the target has become what the source is');
  return { killed, truth, era };
}

test(`mirrors in ${WORLDS} simulated worlds make the target what the source was, revision by revision`, async (t) => {
  const seeds = new Random(t);
  const sums = { claims: 0, copies: 0, killed: 0, parts: 0, wentBack: 0 };
  for (let at = 0; at < WORLDS; at++) {
    const seed = seeds.below(2 ** 31);
    try {
      const { era, killed, truth } = await play(seed);
      sums.claims += truth.counts.claims;
      sums.copies += truth.copies.size;
      sums.killed += killed;
      sums.parts += truth.counts.parts;
      sums.wentBack += era;
    } catch (error) {
      t.diagnostic(`world ${seed}`);
      throw error;
    }
  }
  t.diagnostic(JSON.stringify(sums));
  assert.ok(sums.claims > 20 * WORLDS && sums.copies > WORLDS && sums.killed > 0 && sums.parts > 0);
});
