// Watches: a key that changes every 2 s, all keys of a prefix, and a key that expires. (TUTORIAL_EVERY_MS: the 2 s.)
import { setTimeout as pause } from 'node:timers/promises';
import { Client, type WatchEvent } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const everyMs = Number(process.env['TUTORIAL_EVERY_MS'] ?? 2000);
const { revision } = await client.kv.put('tutorial/watch/begin', '');

const shown = ({ kv, prevKv, type }: WatchEvent): string =>
  `${type} ${kv.key}${type === 'put' ? ` = ${kv.string()}` : ''}${prevKv ? `, before ${prevKv.string()}` : ''}`;

/** Prints what a watch brings until `last` comes. It begins after `revision`, so that nothing is missed. */
async function follow(name: string, range: Parameters<Client['watch']>[0], last: string): Promise<void> {
  for await (const { events } of client.watch(range, { prevKv: true, startRevision: revision + 1n })) {
    for (const event of events) console.log(`${name}: ${shown(event)}`);
    if (events.some((event) => shown(event).startsWith(last))) return; // leaving the loop ends the watch
  }
}

const followed = [
  follow('the key', 'tutorial/watch/clock', 'put tutorial/watch/clock = 3'),
  follow('the prefix', { prefix: 'tutorial/watch/' }, 'delete tutorial/watch/guest'),
];
for (const tick of ['1', '2', '3']) {
  await client.kv.put('tutorial/watch/clock', tick);
  if (tick !== '3') await pause(everyMs);
}
const lease = await client.lease.grant(2);
await client.kv.put('tutorial/watch/guest', 'for 2 s', { leaseId: lease.id });
await Promise.all(followed);

// What was, is told as well: a watch may begin in the past.
const from = client.watch('tutorial/watch/clock', { startRevision: revision });
for await (const { events } of from) {
  console.log(`from the past, at once: ${events.map(({ kv }) => kv.string()).join(' ')}`);
  break;
}
await client.kv.delete({ prefix: 'tutorial/watch/' });
await client.close();
