// A process that holds a lock and a leadership, and tells, line by line as JSON, how it finds them. When it has been
// frozen it says so with the first thing it does, and then tries what a holder would do.
import { Client, Election, hasCode, Mutex, op, Session } from 'conclave';

const [endpoint, ttlSeconds] = process.argv.slice(2);
const client = new Client({ endpoints: endpoint ?? '' });
const session = await Session.open(client, { ttlSeconds: Number(ttlSeconds) });
const lock = await new Mutex(session, 'frozen').lock();
const leadership = await new Election(session, 'frozen-election').campaign('child');
const say = (what: object): void => console.log(JSON.stringify(what));
const codeOf = (error: unknown): string => (hasCode(error) ? error.code : String(error));

let abortedAt = 0;
lock.signal.addEventListener('abort', () => (abortedAt = performance.now()), { once: true });
say({ event: 'holds', token: String(lock.fencingToken) });

let lastTurn = performance.now();
let work: Promise<unknown> | undefined;
const timer = setInterval(() => {
  const now = performance.now();
  const gapMs = now - lastTurn;
  lastTurn = now;
  if (gapMs < 1500 || work !== undefined) return;
  // The first turn of the event loop after the freeze: nothing else has run since.
  const found = { alive: session.alive, held: lock.held, leads: leadership.held, state: session.state };
  work = (async () => {
    const write = lock.txn({ then: [op.put('frozen-data', 'late')] }).then(() => 'written', codeOf);
    // A write that was already on its way: the same compares, without the look at the clock.
    const blind = client.kv
      .txn({ if: lock.guard(), then: [op.put('frozen-data', 'late')] })
      .then(({ succeeded }) => succeeded);
    const proclaim = leadership.proclaim('late').then(() => 'written', codeOf);
    say({
      event: 'woke',
      ...found,
      aborted: abortedAt > 0,
      blind: await blind,
      proclaim: await proclaim,
      reason: codeOf(lock.signal.reason),
      write: await write,
    });
    await lock.unlock();
    await leadership.resign();
    await session.close().catch(() => undefined);
    await client.close();
    clearInterval(timer);
  })();
}, 5);
