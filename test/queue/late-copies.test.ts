// A queue whose requests arrive late, a second time: what they bring back is removed; on both backends.
import { it } from 'node:test';

import { Client, JobQueue, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { Tape } from '../faults/tape.js';
import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const TXN = '/etcdserverpb.KV/Txn';

onEachBackend('Late copies of a queue', (backend) => {
  it('leave no writer behind of a queue that was closed while its session lives', async () => {
    const direct = backend.client();
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    await using session = await Session.open(client);
    const tape = new Tape(proxy, TXN);
    const seen = new Set<string>();
    // The first answer to whatever makes a writer is lost, so that it is sent twice.
    const isFirst = (message: Buffer): boolean =>
      message.includes('/.queue/lane/') && seen.size < seen.add(message.toString('latin1')).size;
    proxy.onCall(TXN, 'dropReply', { then: 'reset', times: Infinity, where: isFirst });
    const queue = new JobQueue<string>(session, 'late');
    await queue.push('job');
    await (await queue.dequeue()).ack();
    await queue.close();
    tape.stop();
    await tape.replay(backend);
    const keys = async (): Promise<readonly string[]> =>
      (await direct.kv.range({ prefix: 'late/.queue/' }, { keysOnly: true })).kvs.map(({ key }) => key);
    await until(async () => !(await keys()).some((key) => key.includes('/lane/')), {
      timeoutMs: 30_000,
      what: 'every writer that came back is removed',
    });
    await direct.kv.delete({ prefix: 'late/' });
  });
});
