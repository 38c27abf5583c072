// A client is given all members, and how long a call may take; it connects when it is first used.
import { Client, ConclaveError } from 'conclave';
import { etcdEndpoints } from './etcd.js';

const endpoints = await etcdEndpoints();
const client = new Client({ endpoints, timeoutMs: 5000 });

const members = await client.cluster.memberList();
console.log(`the cluster has ${members.length} members:`);
for (const { clientUrls, isLearner } of members)
  console.log(`  ${clientUrls.join(' ')}${isLearner ? ' (a learner)' : ''}`);
const status = await client.maintenance.status();
const leader = members.find(({ id }) => id === status.leader);
console.log(`etcd ${status.version}; ${leader?.clientUrls[0] ?? 'nobody'} leads`);
await client.close();

// One member that is down does no harm while another one answers.
const nobody = 'http://127.0.0.1:1';
const withOneDown = new Client({ endpoints: [nobody, ...endpoints] });
await withOneDown.kv.get('tutorial/connect');
console.log(`with one member down calls go to ${withOneDown.endpoint === nobody ? 'nobody' : 'another one'}`);
await withOneDown.close();

// With nobody there, a call fails when its time is over at the latest, and says why.
const lost = new Client({ endpoints: [nobody], timeoutMs: 500 });
try {
  await lost.kv.get('tutorial/connect');
} catch (error) {
  if (error instanceof ConclaveError) console.log(`with nobody there: ${error.code}: ${error.message}`);
}
await lost.close();
