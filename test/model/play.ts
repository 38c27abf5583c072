import assert from 'node:assert/strict';

import type { Backend } from '../support/backends.js';
import { until } from '../support/until.js';
import type { Actor, Seat } from './actor.js';
import { Fleet } from './fleet.js';
import { History } from './history.js';
import { newRandom } from './random.js';

const PROCESSES = 3;
const SESSIONS = 3;

/** What is played. */
export interface Game<A extends Actor> {
  /** All keys that matter begin with `name/`. */
  readonly name: string;
  /** What the processes offer: a module of `subjects/`. */
  readonly subject: string;
  readonly runMs: number;
  /** At which parts of the time a process is killed. What it held stays until its leases have run out. */
  readonly kills: readonly number[];
  /** The actors that share a session, in each of nine sessions. */
  readonly parts: readonly ((seat: Seat) => A)[];
  /** Once time is up: does what the actors need in order to end. */
  readonly finale?: (actors: readonly A[], fleet: Fleet) => Promise<void>;
  /** Keys that need not go by themselves. */
  readonly stays?: RegExp;
}

/** What a run left to be judged. */
export interface Played<A extends Actor> {
  readonly actors: readonly A[];
  /** Of all keys that begin with the game's name. */
  readonly history: History;
}

/** Runs a fleet of actors for a while, kills processes meanwhile, and waits until nothing is left of it all. */
export async function play<A extends Actor>(backend: Backend, game: Game<A>): Promise<Played<A>> {
  const { name, runMs } = game;
  const random = newRandom(`${name} (${backend.kind})`);
  const prefix = `${name}/`;
  const client = backend.client();
  const history = await History.follow(client, prefix);
  const subject = new URL(`subjects/${game.subject}.js`, import.meta.url);
  const fleet = await Fleet.start(backend.endpoints, subject, PROCESSES);
  try {
    const actors = Array.from({ length: PROCESSES * SESSIONS }, (_, at) =>
      game.parts.map((part) => part({ at: at % PROCESSES, fleet, random: random.fork(), session: `s${at}` })),
    ).flat();
    const end = performance.now() + runMs;
    let acting = actors.length;
    const running = actors.map(async (actor) => {
      await actor.run(() => performance.now() > end);
      acting -= 1;
    });
    for (const part of game.kills) {
      await until(() => performance.now() > end - runMs * (1 - part), { what: `${part} of the run` });
      await fleet.replace(random.int(PROCESSES));
    }
    await until(() => performance.now() > end, { what: 'the end of the run' });
    await game.finale?.(actors, fleet);
    await until(() => acting === 0, { timeoutMs: 20_000, what: 'every actor has come to its end' });
    await Promise.all(running);
    for (let at = 0; at < PROCESSES; at++) await fleet.call(at, 'close');
    const left = async (): Promise<readonly string[]> => {
      const { kvs } = await client.kv.range({ prefix }, { keysOnly: true });
      return kvs.map((kv) => kv.key).filter((key) => game.stays?.test(key) !== true);
    };
    // What a killed process held goes with its leases.
    await until(async () => (await client.lease.list()).length === 0, { what: 'no lease is left' });
    assert.deepEqual(await left(), [], 'no key is left');
    await history.complete(client, prefix);
    return { actors, history };
  } finally {
    await fleet.close();
  }
}

/** Fails with what went wrong in a run. */
export function assertNone(...problems: readonly (readonly string[])[]): void {
  const all = problems.flat();
  if (all.length > 0) assert.fail([`${all.length} problems`, ...all.slice(0, 10)].join('\n'));
}
