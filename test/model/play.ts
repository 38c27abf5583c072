import assert from 'node:assert/strict';

import type { Backend } from '../support/backends.js';
import { until } from '../support/until.js';
import type { Actor, Seat } from './actor.js';
import { Fleet } from './fleet.js';
import { History } from './history.js';
import { lateKind, LateLine } from './late-line.js';
import { newRandom } from './random.js';

const PROCESSES = 3;
const SESSIONS = 3;

/** What is played. */
export interface Game<A extends Actor> {
  /** All keys that matter begin with `name/`. */
  readonly name: string;
  /** What the processes offer: a module of `subjects/`. */
  readonly subject: string;
  /** How long it goes on, at least. */
  readonly runMs: number;
  /** Whether enough has happened to be judged; it goes on until then, or for a minute more, on a busy machine. */
  readonly enough: (actors: readonly A[]) => boolean;
  /** At which parts of the time a process is killed. What it held stays until its leases have run out. */
  readonly kills: readonly number[];
  /** The actors that share a session, in each of nine sessions. */
  readonly parts: readonly ((seat: Seat) => A)[];
  /** Once time is up: does what the actors need in order to end. */
  readonly finale?: (actors: readonly A[], fleet: Fleet) => Promise<void>;
  /** Keys that need not go by themselves. */
  readonly stays?: RegExp;
  /** Says what is wrong, by all that happened to the keys that begin with the game's name. */
  readonly judge: (actors: readonly A[], history: History) => readonly string[];
}

/** Runs a fleet of actors for a while, kills processes meanwhile, waits until nothing is left of it all, and judges it. */
export async function play<A extends Actor>(backend: Backend, game: Game<A>): Promise<void> {
  const { name, runMs } = game;
  const random = newRandom(`${name} (${backend.kind})`);
  const prefix = `${name}/`;
  const client = backend.client();
  const history = await History.follow(client, prefix);
  const subject = new URL(`subjects/${game.subject}.js`, import.meta.url);
  await using line = await LateLine.open(backend.endpoints, () => random.int(2 ** 32));
  const fleet = await Fleet.start(line.endpoints, subject, PROCESSES);
  let over = false;
  try {
    const actors = Array.from({ length: PROCESSES * SESSIONS }, (_, at) =>
      game.parts.map((part) => part({ at: at % PROCESSES, fleet, random: random.fork(), session: `s${at}` })),
    ).flat();
    const end = performance.now() + runMs;
    const running = actors.map((actor) => actor.run(() => over));
    for (const part of game.kills) {
      await until(() => performance.now() > end - runMs * (1 - part), { what: `${part} of the run` });
      await fleet.replace(random.int(PROCESSES));
    }
    await until(() => performance.now() > (game.enough(actors) ? end : end + 60_000), { timeoutMs: 90_000 });
    over = true;
    // What is late by now still arrives, while all comes to its end.
    line.stop();
    await game.finale?.(actors, fleet);
    await untilEnded(actors);
    await Promise.all(running);
    await line.settled();
    const left = async (): Promise<readonly string[]> => {
      const { kvs } = await client.kv.range({ prefix }, { keysOnly: true });
      const stays = (key: string): boolean => game.stays?.test(key) === true || line.mayLeave(key);
      return kvs.map((kv) => kv.key).filter((key) => !stays(key));
    };
    // What a killed process held goes with its leases; the sessions of the living are there still.
    const timeoutMs = line.isLate ? 30_000 : 10_000;
    await until(async () => (await left()).length === 0, { timeoutMs }).catch(() => undefined);
    assert.deepEqual(await left(), [], 'no key is left');
    for (let at = 0; at < PROCESSES; at++) await fleet.call(at, 'close');
    // A grant that comes after the revocation of its lease makes it anew, until it has run out.
    const leases = async (): Promise<number> => (await client.lease.list()).length;
    await until(async () => (await leases()) === 0, { timeoutMs, what: 'no lease is left' });
    await history.complete(client, prefix);
    const problems = [...actors.flatMap((actor) => actor.problems), ...game.judge(actors, history)];
    if (problems.length > 0)
      assert.fail([`${problems.length} problems`, ...problems.slice(0, 10)].join('\n'));
    assert.ok(game.enough(actors), 'too little has happened');
  } finally {
    over = true;
    await fleet.close();
  }
}

/** Resolves once these have come to their ends: nobody waits for ever. */
export async function untilEnded(actors: readonly Actor[]): Promise<void> {
  const what = 'every actor has come to its end';
  // What has arrived late may hold up a line until it is found and removed.
  const timeoutMs = lateKind() === undefined ? 20_000 : 60_000;
  await until(() => actors.every(({ ended }) => ended), { timeoutMs, what });
}
