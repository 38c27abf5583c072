// Names of barriers and latches: their keys cannot meet, and bad input is refused by name; on both backends.
import assert from 'node:assert/strict';
import { it } from 'node:test';

import { Barrier, DoubleBarrier, Latch, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { settlesSoon } from '../support/world.js';

onEachBackend('Barriers and latches, their names', (backend) => {
  it('refuses names with a segment below which keys of others could be', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    for (const segment of ['.barrier', '.double-barrier', '.latch']) {
      for (const name of [segment, `m/${segment}`, `m/${segment}/by`, `${segment}/m`]) {
        const refused = (error: unknown): boolean =>
          error instanceof TypeError && error.message.includes(`the segment ${segment},`);
        assert.throws(() => new Barrier(client, name), refused);
        assert.throws(() => new Latch(client, name, { count: 1 }), refused);
        assert.throws(() => new DoubleBarrier(session, name, { count: 1 }), refused);
      }
      new Barrier(client, `m/${segment}s/x${segment}`);
    }
  });

  it('keeps a latch, a barrier and a double barrier of names inside one another apart', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    const latch = new Latch(client, 'm', { count: 5 });
    const inner = ['m/latch', 'm/latch/by', 'm/by', 'm/count'];
    const others = inner.map((name) => new Latch(client, name, { count: 1 }));
    const hold = await new Barrier(session, 'm/latch').hold();
    const round = new DoubleBarrier(session, 'm', { count: 1 });
    await round.enter();
    await Promise.all(others.map((each) => each.countDown()));
    assert.equal(await latch.count(), 5);
    assert.equal(await settlesSoon(latch.wait({ timeoutMs: 2000 }).catch(() => undefined)), false);
    await latch.delete();
    assert.equal((await new Barrier(client, 'm/latch').inspect()).state, 'held');
    assert.ok(hold.held);
    await hold.release();
    await round.leave();
    for (const each of others) assert.equal(await each.delete(), true);
  });

  it('refuses what is no session, no name and no option, by name', async () => {
    const client = backend.client();
    await using session = await Session.open(client);
    const nobody = null as unknown as Session;
    const nothing = undefined as unknown as string;
    assert.throws(
      () => new Barrier(nobody, 'x'),
      /a barrier's session must be a Client or a Session or a Conclave, not null/,
    );
    assert.throws(() => new Latch(nobody, 'x', { count: 1 }), /a latch's session must be/);
    assert.throws(() => new DoubleBarrier(nobody, 'x', { count: 1 }), /a double barrier's session must be/);
    const noSession = client as unknown as Session;
    assert.throws(
      () => new DoubleBarrier(noSession, 'x', { count: 1 }),
      /a double barrier's session must be/,
    );
    assert.throws(() => new Barrier(client, nothing), /a barrier's name must be a string, not undefined/);
    for (const ifHolderDies of [null, '', 0] as unknown as 'open'[]) {
      await assert.rejects(
        new Barrier(session, 'x').hold({ ifHolderDies }),
        /TypeError.*ifHolderDies must be/,
      );
    }
    const timeoutMs = null as unknown as number;
    await assert.rejects(new Barrier(session, 'x').wait({ timeoutMs }), TypeError);
    await assert.rejects(new Latch(client, 'x', { count: 1 }).wait({ timeoutMs }), TypeError);
    await assert.rejects(new DoubleBarrier(session, 'x', { count: 1 }).enter({ timeoutMs }), TypeError);
    assert.equal((await client.kv.range({ prefix: 'x/' })).count, 0n);
  });
});
