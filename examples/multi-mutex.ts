// Money is moved between accounts: both are locked at once, in any order, without deadlock.
import { Client, MultiMutex, op, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

const given = process.env['CONCLAVE_ENDPOINTS']?.split(',');
const server = given === undefined ? await EmbeddedServer.start() : undefined;
const client = new Client({ endpoints: given ?? [server?.endpoint ?? ''] });

const session = await Session.open(client, { ttlSeconds: 5 });
await client.kv.put('example/ann', '100');
await client.kv.put('example/bob', '100');
const balance = async (name: string): Promise<number> =>
  Number((await client.kv.get(`example/${name}`))?.string());

async function move(from: string, to: string, amount: number): Promise<void> {
  const both = new MultiMutex(session, [`example/locks/${from}`, `example/locks/${to}`]);
  await both.run(async (lock) => {
    const [source, target] = [await balance(from), await balance(to)];
    await lock.txn({
      then: [
        op.put(`example/${from}`, String(source - amount)),
        op.put(`example/${to}`, String(target + amount)),
      ],
    });
    console.log(`moved ${amount} from ${from} to ${to}`);
  });
}

await Promise.all([move('ann', 'bob', 30), move('bob', 'ann', 50)]);
console.log(`ann has ${await balance('ann')}, bob has ${await balance('bob')}`);
await client.kv.delete({ prefix: 'example/' });
await session.close();
await client.close();
await server?.close();
