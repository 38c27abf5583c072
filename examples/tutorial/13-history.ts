// History: every change makes a revision of the whole store, and what was can be read until it is compacted.
// The etcd is one of this step's own: compaction takes history away from everybody.
import { Client, ConclaveError } from 'conclave';
import { startEtcd } from 'conclave/testing';

await using etcd = await startEtcd();
const { endpoint } = etcd;
const client = new Client({ endpoints: [endpoint] });
const key = 'tutorial/history';

const revisions: bigint[] = [];
for (const value of ['one', 'two', 'three']) revisions.push((await client.kv.put(key, value)).revision);
const { revision: deletedAt } = await client.kv.delete(key);
for (const revision of revisions) {
  const then = await client.kv.get(key, { revision });
  console.log(`then it was ${then?.string()}, version ${then?.version}`);
}
console.log(`after the deletion: ${(await client.kv.get(key, { revision: deletedAt }))?.string()}`);

// Each answer has a header: the cluster, the member that answered, the store's revision, the term of its leader. The client
// shows the revision with every answer, the rest with maintenance.status(); etcd's JSON gateway shows it as it is.
const response = await fetch(`${endpoint}/v3/kv/range`, {
  body: JSON.stringify({ key: Buffer.from(key).toString('base64') }),
  method: 'POST',
});
const { header } = (await response.json()) as { header: Record<string, string> };
console.log(`the header of an answer: ${Object.keys(header).join(' ')}`);
const { revision } = await client.kv.range(key);
const { leader, memberId, raftTerm } = await client.maintenance.status({ endpoint });
console.log(
  `it is the member we asked: ${header['member_id'] === String(memberId)}, in the leader's term: ${header['raft_term'] === String(raftTerm)}`,
);
console.log(
  `the store has a leader: ${leader !== 0n}; its revision has not gone back: ${revision >= BigInt(header['revision'] ?? 0)}`,
);

await client.kv.compact(deletedAt);
try {
  await client.kv.get(key, { revision: revisions[0] });
} catch (error) {
  if (error instanceof ConclaveError) console.log(`after compaction: ${error.code}`);
}
await client.close();
