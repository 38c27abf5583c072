// A process of tellers who move money between accounts, several at once.
import { Client, hasCode, type Isolation, stm, type StmTransaction } from 'conclave';

import { randomFrom } from '../support/children.js';

/** What the parent says. */
export interface BankInput {
  readonly endpoints: readonly string[];
  readonly seed: number;
  readonly tellers: number;
  readonly accounts: number;
  readonly total: number;
}

/** A teller's word, after each transfer; `done` is how many it knows to have been made. */
export interface BankReport {
  readonly teller: string;
  readonly done: number;
  readonly unknown: number;
  readonly wrongSums: number;
  readonly attempts: number;
}

const input = JSON.parse(process.argv[2] ?? '{}') as BankInput;
const random = randomFrom(input.seed);
const client = new Client({ endpoints: input.endpoints, timeoutMs: 1000 });
const SAFE: readonly Isolation[] = ['serializableSnapshot', 'serializable', 'repeatableReads'];

let finishing = false;
process.stdin.on('end', () => (finishing = true)).resume();

function pick(): string {
  return `bank/account/${Math.floor(random() * input.accounts)}`;
}

async function transfer(tx: StmTransaction, teller: string): Promise<void> {
  const from = pick();
  const to = pick();
  const [source, target, done] = await tx.get([from, to, `bank/done/${teller}`]);
  const amount = Math.min(Number(source?.string()), Math.ceil(random() * 20));
  tx.put(`bank/done/${teller}`, String(Number(done?.string() ?? 0) + 1));
  if (from === to) return;
  tx.put(from, String(Number(source?.string()) - amount));
  tx.put(to, String(Number(target?.string()) + amount));
}

async function work(teller: string): Promise<void> {
  let [done, unknown, wrongSums, attempts] = [0, 0, 0, 0];
  while (!finishing) {
    const isolation = SAFE[Math.floor(random() * SAFE.length)] ?? 'serializableSnapshot';
    const signal = random() < 0.1 ? AbortSignal.timeout(Math.floor(random() * 20)) : undefined;
    try {
      const tried = await stm(client, async (tx) => transfer(tx, teller), { isolation, signal });
      attempts += tried.attempts;
      done += 1;
      if (random() < 0.2) {
        const { result } = await stm(client, async (tx) => tx.range({ prefix: 'bank/account/' }));
        if (result.reduce((sum, kv) => sum + Number(kv.string()), 0) !== input.total) wrongSums += 1;
      }
    } catch (error) {
      // With the proxy at its worst nobody may answer for a while; only of a commit is anything unknown.
      if (hasCode(error, 'UNKNOWN_OUTCOME') || signal?.aborted === true) unknown += 1;
      else if (!hasCode(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CONFLICT')) throw error;
    }
    process.stdout.write(`${JSON.stringify({ attempts, done, teller, unknown, wrongSums })}\n`);
  }
}

await Promise.all(Array.from({ length: input.tellers }, async (_, at) => work(`${input.seed}-${at}`)));
await client.close();
