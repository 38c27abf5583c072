// Elections: a campaign with a session of 1 s, and what etcd makes of 1 s.
import { Client, Election, Session } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const client = new Client({ endpoints: await etcdEndpoints() });
const session = await Session.open(client, { label: 'ann', ttlSeconds: 1 });
// etcd grants no lease shorter than one and a half of its election timeout, in whole seconds.
console.log(`asked for 1 s, granted ${session.ttlSeconds} s`);

const election = new Election(session, 'tutorial/campaign');
const leadership = await election.campaign('ann');
console.log(`ann leads: ${leadership.held}`);
const leader = await election.leader();
console.log(`everybody sees: ${leader?.string()}`);
await leadership.proclaim('ann, on port 8080');
console.log(`proclaimed: ${(await election.leader())?.string()}`);

await leadership.resign();
console.log(`resigned: ${(await election.leader())?.string() ?? 'nobody leads'}`);
await session.close();
await client.close();
