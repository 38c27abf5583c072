// Attempts that somebody else's write comes before, time and again: they pause, and end when they are told to.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Client, Semaphore, type Session, type WaitOptions } from 'conclave';
import { type CallFault, ManualClock } from 'conclave/testing';
import { services } from '#conclave/proto/services.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';
import { onlyReads, RPC, Scene } from './scene.js';

interface Contest {
  readonly attempt: (session: Session, options: WaitOptions) => Promise<unknown>;
  /** Writes what makes the next transaction of the attempt fail. */
  readonly spoil: (client: Client, round: number) => Promise<unknown>;
  /** How many races are lost before it pauses. @default 1 */
  readonly racesAtFirst?: number;
  /** Whether it begins with a limit that is agreed already. @default false */
  readonly agreed?: boolean;
  /** How many pauses are looked at. @default 4 */
  readonly pauses?: number;
}

const agreeAnew: Contest['spoil'] = (client, round) =>
  client.kv.put('x/a.~limit', JSON.stringify({ limit: round + 3, declared: 2 }));
const semaphore = (session: Session): Semaphore => new Semaphore(session, 'x/a', { limit: 2 });

const CONTESTS: Readonly<Record<string, Contest>> = {
  'Semaphore.acquire': {
    attempt: (session, options) => semaphore(session).acquire(options),
    // Its first try is a guess.
    racesAtFirst: 2,
    spoil: agreeAnew,
  },
  'Semaphore.resize': {
    attempt: (session, options) => semaphore(session).resize(100, options),
    agreed: true,
    // With its fourth try it stands in line, and loses no more: late-writes.test.ts.
    pauses: 3,
    spoil: agreeAnew,
  },
};

/** Whether it is a transaction that may write: it compares something. */
function compares(message: Buffer): boolean {
  return services.KV.Txn.requestDeserialize(message).compare.length > 0;
}

onEachBackend('contention', (backend) => {
  for (const [what, { agreed, attempt, pauses: most = 4, racesAtFirst = 1, spoil }] of Object.entries(
    CONTESTS,
  )) {
    test(`${what} that loses every race pauses between its tries, and ends when it is told to`, async (t) => {
      const scene = new Scene(t, backend);
      scene.atEnd(() => scene.direct.kv.delete({ prefix: 'x/' }));
      const proxy = await scene.proxy();
      const clock = new ManualClock();
      const session = await scene.session(scene.client(proxy, { clock }), { ttlSeconds: 60 });
      const race = (): CallFault => proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: compares });
      let rounds = 0;
      if (agreed === true) await spoil(scene.direct, rounds++);
      let next = race();
      const lose = async (): Promise<void> => {
        const lost = next;
        await lost.hit();
        await spoil(scene.direct, rounds++);
        next = race();
        lost.release();
      };
      const stop = new AbortController();
      const refused = assert.rejects(attempt(session, { signal: stop.signal }), /enough/);
      for (let races = 1; races < racesAtFirst; races++) await lose();
      for (let pauses = 0; pauses < most; pauses++) {
        await lose();
        await until(() => (clock.nextTimerMs ?? Infinity) <= 100, { what: 'it pauses' });
        await scene.direct.kv.get('x');
        assert.equal(next.hits, 0, 'it does not try again before its time');
        if (pauses === most - 1) stop.abort(new Error('enough'));
        else await clock.advance(100);
      }
      await refused;
      next.release();
      assert.equal(session.state, 'active');
    });
  }

  test('of two resizes at once the last to arrive counts, and neither is made twice', async (t) => {
    const scene = new Scene(t, backend);
    const proxy = await scene.proxy();
    const one = semaphore(await scene.session(scene.client(proxy), { ttlSeconds: 60 }));
    const two = semaphore(await scene.session(scene.direct, { ttlSeconds: 60 }));
    const write = proxy.onCall(RPC.txn, 'holdRequest', { times: 1, where: compares });
    const resizing = one.resize(5);
    await write.hit();
    // Whatever it looks at after its write, it does so late.
    const late = proxy.onCall(RPC.txn, 'holdRequest', { where: onlyReads });
    write.release();
    await until(async () => (await two.inspect()).limit === 5);
    await two.resize(7);
    late.release();
    await resizing;
    assert.equal((await two.inspect()).limit, 7);
    await two.delete();
  });
});
