import type { Backend } from '../support/backends.js';
import type { Actor, Seat } from './actor.js';
import type { History } from './history.js';
import { type Habits, LockActor } from './lock-actor.js';
import { type Claim, LockChecks } from './lock-checks.js';
import { assertNone, play } from './play.js';

/** How locks are played with. */
export interface LockGame {
  readonly name: string;
  readonly runMs: number;
  readonly habits: Omit<Habits, 'effects'>;
  /** Makes those who only look on. */
  readonly onlookers?: readonly ((seat: Seat) => Actor)[];
  /** Checks what they saw. */
  readonly check?: (checks: LockChecks, history: History) => void;
}

/** Plays with locks, checks all that happened, and returns the holds. */
export async function playLocks(backend: Backend, game: LockGame): Promise<readonly Claim[]> {
  const { name, runMs, habits, onlookers = [] } = game;
  const effects = `effects/${name}/`;
  const lock = (seat: Seat): Actor => new LockActor(seat, { ...habits, effects });
  const { actors, history } = await play<Actor>(backend, {
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
  const lockers = actors.filter((actor) => actor instanceof LockActor);
  const claims = lockers.flatMap((actor) => actor.claims);
  const writes = lockers.flatMap((actor) => actor.effects);
  const checks = new LockChecks(history, claims).all(writes);
  game.check?.(checks, history);
  const by = (how: Claim['by']): number => claims.filter((claim) => claim.by === how).length;
  console.log(
    `# ${claims.length} holds (${by('upgrade')} upgrades, ${by('downgrade')} downgrades), ${writes.length} guarded writes, ${history.lives.length} keys`,
  );
  assertNone(
    actors.flatMap((actor) => actor.problems),
    checks.problems,
  );
  return claims;
}
