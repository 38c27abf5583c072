import assert from 'node:assert/strict';
import { it } from 'node:test';

import { RUNNING } from '#conclave/queue/store/pause.js';
import type { Seat } from './actor.js';
import { lateKind } from './late-line.js';
import { play, untilEnded } from './play.js';
import { QueueActor } from './queue-actor.js';
import { QueueChecks } from './queue-checks.js';
import { onServers } from './servers.js';

const NAME = 'queue/a';
const EFFECTS = 'queue/effect/';

onServers('JobQueue, at random, in several processes', (backend) => {
  it('has every job in one state at a time, and hands each in as it was told', async () => {
    const part = (name: string) => (seat: Seat) => new QueueActor(seat, NAME, name);
    await play<QueueActor>(backend, {
      enough: (actors) => actors.flatMap(({ handIns }) => handIns).length > 10,
      finale: async (actors, fleet) => {
        await untilEnded(actors);
        for (let at = 0; at < fleet.size; at++) await fleet.call(at, 'leave');
        await fleet.call(0, 'finish', 'last', NAME);
      },
      judge: (actors, history) => {
        const checks = new QueueChecks(history, NAME).all(actors, EFFECTS);
        const count = (what: 'pushes' | 'claims' | 'handIns'): number =>
          actors.flatMap((actor): readonly unknown[] => actor[what]).length;
        console.log(
          `# ${count('pushes')} pushes, ${count('claims')} claims, ${count('handIns')} handed in; overtaken by ${checks.overtaken} at most, of ${checks.reach}`,
        );
        return checks.problems;
      },
      kills: [0.5],
      name: 'queue',
      parts: [part('a'), part('b')],
      runMs: 3000,
      // A pause of a process that was killed since may come when all is over: it makes the key anew, as no pause.
      stays: lateKind() === undefined ? /^queue\/effect\// : /^queue\/effect\/|\/control\/paused$/,
      subject: 'queue',
    });
    const { kv } = backend.client();
    const paused = (await kv.get(`${NAME}/.queue/control/paused`))?.string() ?? RUNNING;
    assert.equal(paused, RUNNING, 'nobody has paused it');
    await kv.delete({ prefix: `${NAME}/` });
    await kv.delete({ prefix: EFFECTS });
  });
});
