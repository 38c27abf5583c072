// stm against a model: money is moved by several processes over a line that loses answers, while some are killed. The sum
// stays, at every moment, and every transfer that a teller was told of was made, once.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { FaultProxy } from 'conclave/testing';

import { onEachBackend } from '../support/backends.js';
import { Child, randomFrom, seedFrom } from '../support/children.js';
import { makeLate } from '../model/late-line.js';
import { until } from '../support/until.js';
import type { BankInput, BankReport } from './bank-child.js';

const ACCOUNTS = 8;
const TOTAL = ACCOUNTS * 100;
const FAULTS = 20;
const TXN = '/etcdserverpb.KV/Txn';

onEachBackend('stm at the bank', (backend) => {
  const seed = seedFrom('CONCLAVE_STM_SEED');

  it(`keeps the sum, and counts each transfer once (CONCLAVE_STM_SEED=${seed})`, async (t) => {
    t.diagnostic(`CONCLAVE_STM_SEED=${seed}`);
    const random = randomFrom(seed);
    const client = backend.client();
    for (let at = 0; at < ACCOUNTS; at++) await client.kv.put(`bank/account/${at}`, '100');
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    const late = makeLate(proxy, () => Math.floor(random() * 2 ** 32));
    const last = new Map<string, BankReport>();
    const killed = new Set<number>();
    const start = (child: number): Child<BankReport> => {
      const input: BankInput = {
        accounts: ACCOUNTS,
        endpoints: [proxy.endpoint],
        seed: child,
        tellers: 3,
        total: TOTAL,
      };
      return new Child<BankReport>(import.meta.url, './bank-child.js', input, (report) =>
        last.set(report.teller, report),
      );
    };
    const children = Array.from({ length: 3 }, () => Math.floor(random() * 1e9)).map((id) => ({
      child: start(id),
      id,
    }));
    t.after(() => {
      for (const { child } of children) child.kill();
    });
    await until(() => last.size === 9, { what: 'all tellers are at work' });

    for (let faults = 1; faults <= FAULTS; faults++) {
      const action = random() < 0.7 ? 'dropReply' : 'dropRequest';
      const fault = proxy.onCall(TXN, action, {
        then: random() < 0.3 ? 'cut' : random() < 0.97 ? 'reset' : 'silence',
        where: (message) => message.includes('conclave/stm/'),
      });
      await fault.hit();
      const [victim] = children;
      if (victim !== undefined && faults === 10) {
        killed.add(victim.id);
        victim.child.kill();
      }
      const calm = proxy.replies(TXN) + Math.floor(random() * 40);
      await proxy.waitFor(() => proxy.replies(TXN) >= calm);
    }
    await proxy.heal();
    for (const { child } of children) child.finish();
    for (const { child, id } of children) {
      const code = await child.ended();
      if (!killed.has(id)) assert.equal(code, 0);
    }
    await late?.settled();

    const { kvs } = await client.kv.range({ prefix: 'bank/account/' });
    assert.equal(
      kvs.reduce((sum, kv) => sum + Number(kv.string()), 0),
      TOTAL,
    );
    let [made, attempts] = [0, 0];
    for (const [teller, report] of last) {
      const counted = Number((await client.kv.get(`bank/done/${teller}`))?.string() ?? 0);
      const wasKilled = killed.has(Number(teller.split('-')[0]));
      assert.equal(report.wrongSums, 0);
      assert.ok(counted >= report.done, `${teller}: ${report.done} told, ${counted} made`);
      assert.ok(counted <= report.done + report.unknown + (wasKilled ? 1 : 0), `${teller} made one twice`);
      made += counted;
      attempts += report.attempts;
    }
    t.diagnostic(`${made} transfers in ${attempts} attempts, ${FAULTS} faults, ${killed.size} killed`);
    assert.ok(made > 20 && killed.size === 1);
    await client.kv.delete({ prefix: 'bank/' });
    // The records' leases end by themselves; here they are not waited for.
    for (const id of await client.lease.list()) await client.lease.revoke(id);
  });
});
