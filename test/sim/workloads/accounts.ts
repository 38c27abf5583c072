/** Accounts that transactions move money between: what all of them have together never changes. */
import { stm, type StmTransaction } from 'conclave';

import { known, type Seat, type Workload } from '../workload.js';

const ACCOUNTS = ['acc/a', 'acc/b', 'acc/c'];

async function balances(tx: StmTransaction): Promise<number[]> {
  // At the same time, each by a call of its own.
  const kvs = await Promise.all(ACCOUNTS.map((key) => tx.get(key)));
  return kvs.map((kv) => Number(kv?.string() ?? 0));
}

async function transfer({ client, random }: Seat): Promise<void> {
  const [from, to] = [random.pick(ACCOUNTS), random.pick(ACCOUNTS)];
  const amount = 1 + random.below(10);
  await stm(client, async (tx) => {
    const has = Number((await tx.get(from))?.string() ?? 0);
    tx.put(from, String(has - amount));
    const other = Number((await tx.get(to))?.string() ?? 0);
    tx.put(to, String(other + amount));
  }).catch(known);
}

/** What it sees in one transaction is of one moment. */
async function look({ client, process, stage }: Seat): Promise<void> {
  const seen = await stm(client, balances).catch(known);
  const sum = seen?.result.reduce((total, each) => total + each, 0) ?? 0;
  if (sum !== 0) stage.violate('stm-sum', `${process.name} saw accounts of ${String(sum)} in all, not of 0`);
}

export const accounts: Workload = {
  join: (seat) => ({
    finish: () => look(seat),
    step: async () => {
      seat.stage.operations += 1;
      await (seat.random.chance(0.7) ? transfer(seat) : look(seat));
    },
  }),
  lingers: /^conclave\/stm\//,
  name: 'accounts',
  stays: /^acc\//,
};
