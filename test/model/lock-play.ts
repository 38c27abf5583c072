import type { Backend } from '../support/backends.js';
import type { Actor, Seat } from './actor.js';
import type { History } from './history.js';
import { type Habits, LockActor } from './lock-actor.js';
import { type Claim, LockChecks } from './lock-checks.js';
import { play } from './play.js';

/** How locks are played with. */
export interface LockGame {
  readonly name: string;
  readonly runMs: number;
  readonly habits: Omit<Habits, 'effects'>;
  /** How holds must have come about by the end. */
  readonly needs: readonly Claim['by'][];
  /** Makes those who only look on. */
  readonly onlookers?: readonly ((seat: Seat) => Actor)[];
  /** Says what is wrong with what they saw. */
  readonly judge?: (checks: LockChecks, history: History) => readonly string[];
}

/** Plays with locks, and checks all that happened. */
export async function playLocks(backend: Backend, game: LockGame): Promise<void> {
  const { name, runMs, habits, onlookers = [] } = game;
  const effects = `effects/${name}/`;
  const lock = (seat: Seat): Actor => new LockActor(seat, { ...habits, effects });
  const claimsOf = (actors: readonly Actor[]): Claim[] =>
    actors.flatMap((actor) => (actor instanceof LockActor ? actor.claims : []));
  await play<Actor>(backend, {
    enough: (actors) => {
      const ways = claimsOf(actors).map(({ by }) => by);
      return ways.length > 10 && game.needs.every((by) => ways.includes(by));
    },
    judge: (actors, history) => {
      const claims = claimsOf(actors);
      const writes = actors.flatMap((actor) => (actor instanceof LockActor ? actor.effects : []));
      const checks = new LockChecks(history, claims).all(writes);
      const by = (how: Claim['by']): number => claims.filter((claim) => claim.by === how).length;
      console.log(
        `# ${claims.length} holds (${by('upgrade')} upgrades, ${by('downgrade')} downgrades), ${writes.length} guarded writes, ${history.lives.length} keys`,
      );
      return [...(game.judge?.(checks, history) ?? []), ...checks.problems];
    },
    // Late, since a line stands still until the leases of a killed process have run out.
    kills: [0.8],
    name,
    // Two, which share a key in a plain mutex's line.
    parts: [lock, lock, ...onlookers],
    runMs,
    stays: /\.~limit$/,
    subject: 'locks',
  });
  await backend.client().kv.delete({ prefix: effects });
}
