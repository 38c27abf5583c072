import assert from 'node:assert/strict';
import { it } from 'node:test';

import { BarrierHolder, BarrierWaiter } from './barrier-actor.js';
import { BarrierChecks } from './barrier-checks.js';
import type { Fleet } from './fleet.js';
import { play, untilEnded } from './play.js';
import { onServers } from './servers.js';
import type { Closed } from './subjects/barrier.js';
import type { Outcome } from './window.js';

const NAME = 'barrier/a';

onServers('Barrier, at random, in several processes', (backend) => {
  it('ends a wait, one way or the other, by what the barrier was meanwhile', async () => {
    let last: Outcome<boolean> = { after: 0n, before: 0n, error: 'GONE' };
    await play<BarrierHolder | BarrierWaiter>(backend, {
      enough: (actors) =>
        ['ALREADY_HELD', 'BROKEN', undefined].every((error) => errorsOf(actors).includes(error)),
      // Once nobody holds it any more, and it is opened for the last time, every wait must end.
      finale: async (actors, fleet) => {
        await untilEnded(actors.filter((actor) => actor instanceof BarrierHolder));
        last = (await fleet.call(0, 'reset', NAME)) as Outcome<boolean>;
        await untilEnded(actors);
        for (let ms = 0; ms < 10; ms++) await openDuringWaits(fleet, ms);
      },
      judge: (actors, history) => {
        const [fine, broken, held] = [undefined, 'BROKEN', 'ALREADY_HELD'].map(
          (error) => errorsOf(actors).filter((each) => each === error).length,
        );
        console.log(
          `# ${fine} times it was closed, or seen open; ${broken} times broken, ${held} times held`,
        );
        return new BarrierChecks(history, NAME).all(actors, last).problems;
      },
      kills: [0.5],
      name: 'barrier',
      parts: [(seat) => new BarrierHolder(seat, NAME), (seat) => new BarrierWaiter(seat, NAME)],
      runMs: 3000,
      subject: 'barrier',
    });
    await backend.client().kv.delete({ prefix: 'effects/' });
  });
});

/** Whoever comes to wait just when it is opened for the last time does not miss that. */
async function openDuringWaits(fleet: Fleet, afterMs: number): Promise<void> {
  const { value } = (await fleet.call(0, 'hold', undefined, NAME, 'stay', undefined)) as Outcome<Closed>;
  const waits = Promise.all(
    Array.from({ length: 9 }, (_, at) => fleet.call(at % fleet.size, 'wait', undefined, NAME, 10_000)),
  );
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  await fleet.call(0, 'release', value?.hold);
  for (const { error } of (await waits) as Outcome[]) assert.equal(error, undefined);
}

/** What came of all holds and waits. */
function errorsOf(actors: readonly (BarrierHolder | BarrierWaiter)[]): (string | undefined)[] {
  return actors
    .flatMap((actor): readonly Outcome[] => (actor instanceof BarrierHolder ? actor.attempts : actor.waits))
    .map(({ error }) => error);
}
