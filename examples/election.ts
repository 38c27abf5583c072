// Three candidates; each leads once, and everybody sees who leads.
import { Client, Election, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

async function candidate(name: string): Promise<void> {
  await using session = await Session.open(client, { label: name, ttlSeconds: 5 });
  const election = new Election(session, 'example/scheduler');
  await election.run(name, (leadership) => {
    console.log(`${name} leads${leadership.held ? '' : ' no more'}`);
  });
}

const watching = await Session.open(client);
const stop = new AbortController();
const leaders = new Election(watching, 'example/scheduler').observe({ signal: stop.signal });
await Promise.all(['ann', 'bob', 'cyd'].map(candidate));
const seen: string[] = [];
for await (const leader of leaders) {
  if (leader !== undefined) seen.push(leader.string());
  if (seen.length === 3) break;
}
console.log(`seen to lead: ${[...seen].sort().join(', ')}`);
await watching.close();
await client.close();
await server?.close();
