import { it } from 'node:test';

import { FaultProxy } from 'conclave/testing';

import { LatchCounter, LATCHES, LatchWaiter, WRONG_COUNT } from './latch-actor.js';
import { LatchChecks } from './latch-checks.js';
import { play, untilEnded } from './play.js';
import { onServers } from './servers.js';
import type { LatchOf } from './subjects/latch.js';

const NAMES = ['few', 'many'] as const;
const TXN = '/etcdserverpb.KV/Txn';

onServers('Latch, at random, in several processes', (backend) => {
  it('counts every call once, whatever answers are lost, and opens at zero', async () => {
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const struck = (['dropReply', 'dropRequest'] as const).map((action) => {
      let seen = 0;
      const where = (message: Buffer): boolean => message.includes('/.latch/by/') && ++seen % 10 === 0;
      return proxy.onCall(TXN, action, { then: 'reset', times: Infinity, where });
    });
    const through = {
      client: backend.client.bind(backend),
      endpoints: [proxy.endpoint],
      kind: backend.kind,
    };
    await play<LatchCounter | LatchWaiter>(through, {
      enough: (actors) =>
        actors.some(({ calls }) => calls.some(({ error, what }) => what === 'wait' && error === undefined)),
      // Each is opened once more, or for the last time, and every wait must end.
      finale: async (actors, fleet) => {
        await untilEnded(actors.filter((actor) => actor instanceof LatchCounter));
        for (const fault of struck) fault.release();
        // One of the two is what it counts from.
        const ofAll = NAMES.flatMap((name) =>
          [LATCHES[name], WRONG_COUNT].map((count): LatchOf => ({
            actor: `${count}`,
            count,
            name: `latch/${name}`,
            session: undefined,
          })),
        );
        for (const of of ofAll) await fleet.call(0, 'countDown', of, 1000, undefined);
        await untilEnded(actors);
        for (const of of ofAll) await fleet.call(0, 'remove', of);
      },
      judge: (actors, history) => {
        const calls = actors.flatMap((actor) => actor.calls);
        const count = (what: string): number =>
          calls.filter((call) => call.what === what && call.error === undefined).length;
        const [replies, requests] = struck.map(({ hits }) => hits);
        console.log(
          `# ${count('countDown')} counts, ${count('wait')} waits, ${count('remove')} removals, ${requests} requests and ${replies} replies lost`,
        );
        return NAMES.flatMap((name) => {
          const checks = new LatchChecks(history, `latch/${name}`).all(actors);
          if (name === 'many') for (const actor of actors) checks.counted(actor, actor.stepOf(name));
          return checks.problems;
        });
      },
      kills: [0.5],
      name: 'latch',
      parts: [(seat) => new LatchCounter(seat), (seat) => new LatchWaiter(seat)],
      runMs: 3000,
      subject: 'latch',
    });
  });
});
