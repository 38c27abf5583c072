// What was sent again may still arrive by the first way, when all is long over: then it must do nothing. Here every answer
// is lost once, and at the end every request is delivered once more, in order; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Barrier, Client, DoubleBarrier, hasCode, Latch, Session } from 'conclave';
import { FaultProxy } from 'conclave/testing';

import { Tape } from '../faults/tape.js';
import { type Backend, onEachBackend } from '../support/backends.js';
import { settlesSoon } from '../support/world.js';

const TXN = '/etcdserverpb.KV/Txn';
const coded = (code: string) => (error: unknown) => hasCode(error) && error.code === code;

/** A client behind a line on which each transaction's first answer is lost, so that it is sent twice. */
class TwiceSent implements AsyncDisposable {
  readonly client: Client;
  readonly proxy: FaultProxy;
  readonly #backend: Backend;
  readonly #tape: Tape;

  private constructor(backend: Backend, proxy: FaultProxy) {
    this.#backend = backend;
    this.proxy = proxy;
    this.client = new Client({ endpoints: [proxy.endpoint] });
    this.#tape = new Tape(proxy, TXN);
    const seen = new Set<string>();
    const isFirst = (message: Buffer): boolean => seen.size < seen.add(message.toString('latin1')).size;
    proxy.onCall(TXN, 'dropReply', { then: 'reset', times: Infinity, where: isFirst });
  }

  static async start(backend: Backend): Promise<TwiceSent> {
    return new TwiceSent(backend, await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true }));
  }

  /** Delivers every request once more, and once more the other way round: what comes late comes in any order. */
  async replay(): Promise<void> {
    this.#tape.stop();
    await this.#tape.replay(this.#backend);
    this.#tape.requests.reverse();
    await this.#tape.replay(this.#backend);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
    await this.proxy.close();
  }
}

onEachBackend('Late copies', (backend) => {
  for (const ifHolderDies of ['break', 'open', 'stay'] as const) {
    it(`do not hold a barrier that was released (${ifHolderDies})`, async () => {
      await using twice = await TwiceSent.start(backend);
      await using session = await Session.open(twice.client);
      const hold = await new Barrier(session, 'b').hold({ ifHolderDies });
      await hold.release();
      await twice.replay();
      assert.equal((await new Barrier(backend.client(), 'b').inspect()).state, 'open');
    });
  }

  it('do not hold a barrier that was released by a client without a session, or release the next one', async () => {
    await using twice = await TwiceSent.start(backend);
    const hold = await new Barrier(twice.client, 'b').hold({ ifHolderDies: 'stay' });
    await hold.release();
    const next = await new Barrier(backend.client(), 'b').hold({ ifHolderDies: 'stay' });
    await twice.replay();
    assert.ok(next.held);
    assert.equal((await new Barrier(backend.client(), 'b').inspect()).state, 'held');
    await next.release();
  });

  it('do not hold a barrier that was taken over when it was broken', async () => {
    const direct = backend.client();
    const dying = await Session.open(direct);
    await new Barrier(dying, 'b').hold();
    await direct.lease.revoke(dying.leaseId);
    await using twice = await TwiceSent.start(backend);
    await using session = await Session.open(twice.client);
    const hold = await new Barrier(session, 'b').hold();
    await hold.release();
    await twice.replay();
    assert.equal((await new Barrier(direct, 'b').inspect()).state, 'open');
  });

  it('do not hold a barrier whose holding was given up', async () => {
    await using twice = await TwiceSent.start(backend);
    await using session = await Session.open(twice.client);
    // Its second copy is on its way when the caller gives up.
    const held = twice.proxy.onCall(TXN, 'holdRequest', {
      where: (message) => message.includes('ifHolderDies'),
    });
    const giveUp = new AbortController();
    const holding = new Barrier(session, 'b').hold({ signal: giveUp.signal });
    holding.catch(() => undefined); // It may reject before it is waited for.
    await held.hit();
    giveUp.abort(new Error('enough'));
    held.release();
    await assert.rejects(holding, /enough/);
    await twice.replay();
    assert.equal((await new Barrier(backend.client(), 'b').inspect()).state, 'open');
  });

  it('do not enter a double barrier: after a round of two, nobody enters alone', async () => {
    await using twice = await TwiceSent.start(backend);
    await using session = await Session.open(twice.client);
    const parties = [1, 2].map(() => new DoubleBarrier(session, 'd', { count: 2 }));
    await Promise.all(parties.map((party) => party.enter()));
    await Promise.all(parties.map((party) => party.leave()));
    // Nor does one that was given up.
    await assert.rejects(
      new DoubleBarrier(session, 'd', { count: 2 }).enter({ timeoutMs: 100 }),
      coded('TIMEOUT'),
    );
    await twice.replay();
    await using other = await Session.open(backend.client());
    const { kvs } = await other.client.kv.range({ prefix: 'd/.double-barrier/' });
    assert.deepEqual(
      kvs.map(({ key }) => key),
      [],
    );
    const giveUp = new AbortController();
    const alone = new DoubleBarrier(other, 'd', { count: 2 }).enter({ signal: giveUp.signal });
    assert.equal(await settlesSoon(alone.catch(() => undefined)), false);
    giveUp.abort(new Error('enough'));
    await assert.rejects(alone, /enough/);
  });

  it('do not bring back a latch that was deleted', async () => {
    await using twice = await TwiceSent.start(backend);
    const latch = new Latch(twice.client, 'l', { count: 2 });
    await latch.countDown();
    await latch.countDown();
    assert.equal(await latch.count(), 0);
    const direct = backend.client();
    assert.equal(await new Latch(direct, 'l', { count: 2 }).delete(), true);
    await twice.replay();
    const next = new Latch(direct, 'l', { count: 3 });
    assert.equal(await next.count(), 3);
    await twice.replay();
    assert.equal(await next.count(), 3);
    await next.delete();
  });

  it('do not open a barrier that was held again since it was reset', async () => {
    const direct = backend.client();
    await new Barrier(direct, 'b').hold({ ifHolderDies: 'stay' });
    await using proxy = await FaultProxy.start(backend.endpoints[0] ?? '', { grpc: true });
    await using client = new Client({ endpoints: [proxy.endpoint] });
    const tape = new Tape(proxy, TXN);
    assert.equal(await new Barrier(client, 'b').reset(), true);
    const hold = await new Barrier(direct, 'b').hold({ ifHolderDies: 'stay' });
    tape.stop();
    await tape.replay(backend);
    assert.equal((await new Barrier(direct, 'b').inspect()).state, 'held');
    await hold.release();
  });
});
