import { it } from 'node:test';

import { Party } from './double-barrier-actor.js';
import { DoubleBarrierChecks } from './double-barrier-checks.js';
import { play, untilEnded } from './play.js';
import { onServers } from './servers.js';
import type { Entry } from './subjects/double-barrier.js';

const NAME = 'double/a';
const COUNT = 3;

onServers('DoubleBarrier, at random, in several processes', (backend) => {
  it('keeps its rounds whole and apart while parties give up, lose their sessions and are killed', async () => {
    await play<Party>(backend, {
      enough: (actors) => actors.flatMap(({ exits }) => exits).length > 10,
      // When all parties of a round die, what was said of it stays until the next round has ended.
      finale: async (actors, fleet) => {
        await untilEnded(actors);
        await Promise.all(
          Array.from({ length: COUNT }, async (_, at) => {
            const entry = (await fleet.call(at, 'enter', 'last', NAME, COUNT, undefined)) as Entry;
            await fleet.call(at, 'leave', entry.leaseId, undefined);
          }),
        );
      },
      judge: (actors, history) => {
        const checks = new DoubleBarrierChecks(history, NAME, COUNT).all(actors);
        const exits = actors.flatMap((actor) => actor.exits);
        console.log(`# ${checks.rounds.length} rounds, entered ${exits.length} times`);
        return checks.problems;
      },
      // Each holds all up until the leases of the killed process have run out.
      kills: [0.2, 0.6],
      name: 'double',
      parts: [(seat) => new Party(seat, NAME, COUNT)],
      runMs: 6000,
      subject: 'double-barrier',
    });
  });
});
