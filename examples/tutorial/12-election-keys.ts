// The keys of an election, as etcd shows them: a key for each candidate, in order of creation; the first one leads.
import { Client, Election, Session } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const prefix = 'tutorial/keys/';
const names = ['ann', 'bob', 'cyd'];

const sessions = await Promise.all(names.map((label) => Session.open(client, { label, ttlSeconds: 5 })));
const elections = sessions.map((session) => new Election(session, prefix.slice(0, -1)));
const [first] = elections;
const campaigns = [];
for (const [at, election] of elections.entries()) {
  campaigns.push(election.campaign(names[at] ?? ''));
  // One after the other, so that the order below is this one.
  while ((await client.kv.range({ prefix }, { countOnly: true })).count <= at) continue;
}
const leadership = await campaigns[0];

async function show(when: string): Promise<void> {
  const { kvs } = await client.kv.range({ prefix }, { sort: { by: 'create', order: 'asc' } });
  console.log(`${when}:`);
  for (const kv of kvs) {
    const lease = kv.leaseId?.toString(16) ?? '';
    const isNamedByLease = kv.key === `${prefix}${lease}`;
    console.log(
      `  ${kv.key} = ${kv.string()}, created at ${kv.createRevision}, named by its lease: ${isNamedByLease}`,
    );
  }
}

await show('three candidates');
console.log(`the leader is the one with the lowest: ${(await first?.leader())?.string()}`);
await leadership?.resign();
await campaigns[1];
await show('after it resigned');
const over = Promise.allSettled(campaigns); // cyd's is refused, for her session ends
for (const session of sessions) await session.close();
// What etcdctl would show: etcdctl get --prefix tutorial/keys/ --order ASCEND --sort-by CREATE -w fields
console.log(`after all have gone: ${(await client.kv.range({ prefix })).count} keys`);
await over;
await client.close();
