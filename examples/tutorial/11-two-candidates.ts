// Two candidates, each a process of its own: the leader is killed, and the next one leads. (Run it without arguments.)
import { fork } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { Client, Election, Session } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const name = 'tutorial/two-candidates';

async function candidate(who: string): Promise<void> {
  const client = new Client({ endpoints: await etcdEndpoints() });
  const session = await Session.open(client, { label: who, ttlSeconds: 2 });
  await new Election(session, name).run(who, async (leadership) => {
    process.send?.(`${who} leads, with token ${leadership.fencingToken}`);
    // It leads until it is lost, or until this process is killed.
    await new Promise((resolve) => leadership.signal.addEventListener('abort', resolve, { once: true }));
  });
}

/** Starts a candidate; resolves when it leads, or has been in line for as long as `until` takes. */
function start(who: string, endpoints: readonly string[]) {
  const child = fork(fileURLToPath(import.meta.url), [who], {
    env: { ...process.env, CONCLAVE_ENDPOINTS: endpoints.join() },
  });
  const leads = new Promise<void>((resolve) =>
    child.once('message', (text) => {
      console.log(text);
      resolve();
    }),
  );
  return { child, leads };
}

async function play(): Promise<void> {
  const endpoints = await etcdEndpoints();
  const client = new Client({ endpoints });
  const watching = await Session.open(client);
  const election = new Election(watching, name);

  const ann = start('ann', endpoints);
  await ann.leads;
  const bob = start('bob', endpoints);
  while ((await election.inspect()).waiters.length === 0) await pause(20);
  console.log('bob waits in line');

  const leaders = election.observe();
  console.log(`an observer sees: ${(await leaders.next()).value?.string() ?? 'nobody'}`);
  const since = performance.now();
  ann.child.kill('SIGKILL');
  console.log('ann is killed; her lease runs on until etcd has not heard of her for its whole time');
  await bob.leads;
  const seconds = (performance.now() - since) / 1000;
  console.log(`bob leads no later than the lease allows: ${seconds < 5 ? 'within 5 s' : `${seconds} s`}`);
  for await (const leader of leaders) {
    console.log(`the observer sees: ${leader?.string() ?? 'nobody'}`);
    if (leader?.string() === 'bob') break;
  }
  bob.child.kill('SIGKILL');
  await watching.close();
  await client.close();
}

const [who] = process.argv.slice(2);
await (who === undefined ? play() : candidate(who));
