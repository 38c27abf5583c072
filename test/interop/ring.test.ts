import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Mutex, op, type Session } from 'conclave';
import { onStage } from './scene.js';

const SECONDS = 10;
const COUNTER = 'data/counter';

/** As the Go program does: takes the lock again and again, and adds one to the counter while it holds it. */
async function hammer(session: Session, name: string): Promise<number> {
  const mutex = new Mutex(session, name);
  const { kv } = session.client;
  const end = performance.now() + SECONDS * 1000;
  let count = 0;
  let last = 0n;
  while (performance.now() < end) {
    await using lock = await mutex.lock();
    assert.ok(lock.fencingToken > last, 'tokens grow');
    last = lock.fencingToken;
    const now = Number((await kv.get(COUNTER))?.string() ?? '0');
    await lock.txn({ then: [op.put(COUNTER, String(now + 1))] });
    count += 1;
  }
  return count;
}

test('Go processes and sessions of ours hammer one lock for 10 s, and no increment is lost', () =>
  onStage(async ({ client, go, ours }) => {
    const peers = await Promise.all([1, 2, 3].map(() => go()));
    const sessions = await Promise.all([1, 2, 3].map(() => ours()));
    const theirs = peers.map(async (peer) => {
      const { count = 0 } = await peer.do('hammer', 'm', { ms: SECONDS * 1000, value: COUNTER });
      return count;
    });
    // Two tasks of one session share a key: they are among those who must not overlap.
    const tasks = [...sessions, ...sessions.slice(0, 1)].map((session) => hammer(session, 'm'));
    const counts = await Promise.all([...theirs, ...tasks]);
    const sum = counts.reduce((a, b) => a + b, 0);
    assert.equal((await client.kv.get(COUNTER))?.string(), String(sum), `counts ${counts.join(', ')}`);
    assert.ok(
      counts.every((count) => count > 0),
      `everybody had a turn: ${counts.join(', ')}`,
    );
  }));
