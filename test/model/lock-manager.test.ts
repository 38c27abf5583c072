import { it } from 'node:test';

import { Onlooker, type Seat } from './actor.js';
import { playLocks } from './lock-play.js';
import { onServers } from './servers.js';
import type { Query } from './subjects/locks.js';

onServers('LockManager, at random, in several processes', (backend) => {
  it('keeps the promises of its locks, mixed with read-write locks, and tells who holds and who waits', async () => {
    const queries: Onlooker<Query>[] = [];
    await playLocks(backend, {
      habits: {
        loseChance: 0.01,
        want: (random) => ({
          kind: random.pick([
            'shared',
            'shared',
            'shared',
            'exclusive',
            'read',
            'write',
            'mutex',
            'lead',
          ] as const),
          limit: 1,
          // On some there is hardly anybody, so that they can be had at once.
          names: [random.pick(['lm/a', 'lm/b/c', `lm/rare/${random.int(5)}`])],
          weight: 1,
        }),
      },
      judge: (checks) => {
        const seen = queries.flatMap((onlooker) => onlooker.seen);
        for (const query of seen) checks.query(query);
        const waiting = seen.filter(({ locks }) => locks.some(({ held }) => !held));
        console.log(`# ${seen.length} queries, in ${waiting.length} somebody waits`);
        return waiting.length > 0 ? [] : ['nobody was ever seen to wait'];
      },
      name: 'lm',
      needs: ['arrival', 'campaign', 'upgrade'],
      onlookers: [
        (seat: Seat) => {
          const onlooker = new Onlooker<Query>(seat, 'query', seat.session, 'lm');
          queries.push(onlooker);
          return onlooker;
        },
      ],
      runMs: 3000,
    });
  });
});
