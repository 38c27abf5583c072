import { it } from 'node:test';

import { Onlooker, type Seat } from './actor.js';
import { type History, valueAt, wasAlive } from './history.js';
import { playLocks } from './lock-play.js';
import { onServers } from './servers.js';
import { Timeline } from './timeline.js';
import type { Outcome } from './window.js';

const NAME = 'election/a';

/** The revisions of the leaders and their values, in order; 0n is "nobody leads". */
function leaders(history: History): Timeline<bigint> {
  const line = history.lives.filter(({ key }) => key.startsWith(`${NAME}/`));
  return new Timeline(history, (revision) => {
    const first = line.find((life) => wasAlive(life, revision));
    return first === undefined ? 0n : (valueAt(first, revision)?.modRevision ?? 0n);
  });
}

/**
 * What is wrong with what was observed: it must be a stretch of what there was, nothing left out. It may begin a little
 * in the past, since an observer hears of a leader afterwards.
 */
function judge({ value: seen, error, after }: Outcome<readonly bigint[]>, all: Timeline<bigint>): string[] {
  if (seen === undefined) return [`observing failed with ${error}`];
  // Ended before its first read was answered. That not all are is checked below.
  if (seen.length === 0) return [];
  const were = all
    .during({ after, before: 0n })
    .filter((leader, at, states) => at === 0 || leader !== states[at - 1]);
  const starts = were.flatMap((leader, at) => (leader === seen[0] ? [at] : []));
  if (starts.some((at) => seen.every((leader, further) => leader === were[at + further]))) return [];
  return [`observed [${seen.join(', ')}] when there was [${were.join(', ')}]`];
}

onServers('Election, at random, in several processes', (backend) => {
  it('has one leader at a time, in the order of arrival, mixed with mutexes, and observers see each of them', async () => {
    const observers: Onlooker<Outcome<readonly bigint[]>>[] = [];
    await playLocks(backend, {
      habits: {
        loseChance: 0.01,
        want: (random) => ({
          kind: random.pick(['lead', 'lead', 'lead', 'lead', 'mutex'] as const),
          limit: 1,
          // On some there is hardly anybody, so that one can lead at once.
          names: [random.pick([NAME, NAME, `election/rare${random.int(3)}`])],
          weight: 1,
        }),
      },
      judge: (_, history) => {
        const timeline = leaders(history);
        const seen = observers.flatMap((observer) => observer.seen);
        const changes = seen.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
        console.log(`# ${changes} changes observed in ${seen.length} goes`);
        const problems = seen.flatMap((each) => judge(each, timeline));
        return changes > seen.length ? problems : ['no change was ever observed', ...problems];
      },
      name: 'election',
      needs: ['arrival', 'campaign'],
      onlookers: [
        (seat: Seat) => {
          const observer = new Onlooker<Outcome<readonly bigint[]>>(seat, 'observe', seat.session, NAME, 10);
          observers.push(observer);
          return observer;
        },
      ],
      runMs: 3000,
    });
  });
});
