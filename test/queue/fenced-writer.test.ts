// A fenced writer whose transaction etcd has done and then answered with an error, as one that is out of space may.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Client, compare, ConclaveError, hasCode, op, Session } from 'conclave';

import { FencedWriter } from '#conclave/queue/store/fenced-writer.js';

import { type Backend, onBackends } from '../support/backends.js';

/** Does `body` with a writer of its own, of a session of its own. */
async function withWriter(
  backend: Backend,
  body: (writer: FencedWriter, client: Client) => Promise<void>,
): Promise<void> {
  const client = backend.client();
  await using session = await Session.open(client, { ttlSeconds: 30 });
  const writer = await FencedWriter.open(session, 'fenced/writer');
  await body(writer, client);
  assert.equal(await writer.close([op.put('fenced/closed', '')]), true);
  assert.equal(await client.kv.get('fenced/writer'), undefined);
  await client.kv.delete({ prefix: 'fenced/' });
}

/** From now on this client's transactions are answered with NO_SPACE: the first after it was done, the others without. */
function outOfSpace(client: Client): { readonly asked: () => number; end(): void } {
  const { kv } = client;
  const txn = kv.txn.bind(kv);
  let asked = 0;
  kv.txn = async (...request: Parameters<typeof txn>) => {
    if (++asked === 1) await txn(...request);
    const cause = new ConclaveError('NO_SPACE', 'etcdserver: mvcc: database space exceeded');
    throw new ConclaveError('UNKNOWN_OUTCOME', 'etcd was out of space, and may have done it', { cause });
  };
  return { asked: () => asked, end: () => void (kv.txn = txn) };
}

onBackends(['etcd'], 'A fenced writer whose transaction is done and answered with NO_SPACE', (backend) => {
  const put = (value: string): { then: ReturnType<typeof op.put>[] } => ({
    then: [op.put('fenced/value', value)],
  });
  const stored = async (client: Client): Promise<string | undefined> =>
    (await client.kv.get('fenced/value'))?.string();

  test('it is seen to be done by the first look, is not done again, and the next one is done', async () => {
    await withWriter(backend, async (writer, client) => {
      const full = outOfSpace(client);
      const first = await writer.run(put('first'));
      assert.equal(first.is, 'appliedUnseen');
      assert.equal(full.asked(), 1);
      full.end();
      const second = await writer.run(put('second'));
      assert.equal(second.is, 'applied');
      assert.equal(await stored(client), 'second');
    });
  });

  /** Runs one that is done, though that cannot be seen for so long that it is given up. */
  async function giveUp(writer: FencedWriter, client: Client): Promise<void> {
    const full = outOfSpace(client);
    const { kv } = client;
    const get = kv.get.bind(kv);
    kv.get = () => Promise.reject(new ConclaveError('PERMISSION_DENIED', 'etcdserver: permission denied'));
    await assert.rejects(writer.run(put('first')), (error) => hasCode(error, 'UNKNOWN_OUTCOME'));
    assert.ok(full.asked() > 1);
    full.end();
    kv.get = get;
    assert.equal(await stored(client), 'first');
  }

  test('when it is given up, since it cannot be seen, the writer can be closed, and leaves nothing', async () => {
    await withWriter(backend, giveUp);
  });

  test('when it is given up, since it cannot be seen, it is not taken for the next one', async () => {
    await withWriter(backend, async (writer, client) => {
      await giveUp(writer, client);
      // Its condition does not hold: if it were taken for the first one, it would be said to be done.
      const refused = await writer.run({ ...put('second'), if: [compare.missing('fenced/value')] });
      assert.equal(refused.is, 'refused');
      const third = await writer.run(put('third'));
      assert.equal(third.is, 'applied');
      assert.equal(await stored(client), 'third');
    });
  });
});
