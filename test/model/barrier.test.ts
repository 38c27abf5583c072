import { it } from 'node:test';

import { onEachBackend } from '../support/backends.js';
import { BarrierHolder, BarrierWaiter } from './barrier-actor.js';
import { BarrierChecks } from './barrier-checks.js';
import { play, untilEnded } from './play.js';
import type { Outcome } from './window.js';

const NAME = 'barrier/a';

onEachBackend('Barrier, at random, in several processes', (backend) => {
  it('ends a wait, one way or the other, by what the barrier was meanwhile', async () => {
    let last: Outcome<boolean> = { after: 0n, before: 0n, error: 'GONE' };
    await play<BarrierHolder | BarrierWaiter>(backend, {
      enough: (actors) =>
        ['ALREADY_HELD', 'BROKEN', undefined].every((error) => errorsOf(actors).includes(error)),
      // Once nobody holds it any more, and it is opened for the last time, every wait must end.
      finale: async (actors, fleet) => {
        await untilEnded(actors.filter((actor) => actor instanceof BarrierHolder));
        last = (await fleet.call(0, 'reset', NAME)) as Outcome<boolean>;
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

/** What came of all holds and waits. */
function errorsOf(actors: readonly (BarrierHolder | BarrierWaiter)[]): (string | undefined)[] {
  return actors
    .flatMap((actor): readonly Outcome[] => (actor instanceof BarrierHolder ? actor.attempts : actor.waits))
    .map(({ error }) => error);
}
