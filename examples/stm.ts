// Money is moved between accounts by many at once, and none of it is lost or made.
import { Client, stm } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const accounts = ['ann', 'bob', 'cyd'].map((name) => `example/accounts/${name}`);
for (const account of accounts) await client.kv.put(account, '100');

async function move(from: string, to: string, amount: number): Promise<void> {
  await stm(client, async (tx) => {
    const [source, target] = await tx.get([from, to]);
    if (Number(source?.string()) < amount) return;
    tx.put(from, String(Number(source?.string()) - amount));
    tx.put(to, String(Number(target?.string()) + amount));
  });
}

const [ann = '', bob = '', cyd = ''] = accounts;
await Promise.all([move(ann, bob, 30), move(bob, cyd, 50), move(cyd, ann, 20), move(ann, cyd, 10)]);
const { result } = await stm(client, async (tx) => tx.range({ prefix: 'example/accounts/' }));
for (const kv of result) console.log(`${kv.key} has ${kv.string()}`);
console.log(`together ${result.reduce((sum, kv) => sum + Number(kv.string()), 0)}`);
await client.kv.delete({ prefix: 'example/accounts/' });
await client.close();
await server?.close();
