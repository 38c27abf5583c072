import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Election } from 'conclave';
import { until } from '../support/until.js';
import { onStage } from './scene.js';

test('leaders of both kinds follow one another, and both kinds of observer see it', () =>
  onStage(async ({ go, inLine, ours }) => {
    const [session, peer, watcher] = [await ours(), await go(), await go()];
    const election = new Election(session, 'e');
    const seenByGo: string[] = [];
    watcher.observe('e', (value) => seenByGo.push(value));
    const stop = new AbortController();
    const leaders = new Election(await ours(), 'e').observe({ signal: stop.signal });
    const next = async (): Promise<string | undefined> => {
      const result = await leaders.next();
      return result.done === true ? 'the end' : result.value?.string();
    };
    assert.equal(await next(), undefined, 'nobody leads at first');
    await assert.rejects(watcher.do('leader', 'e'), /no leader/);

    const leadership = await election.campaign('ours 1');
    assert.equal(await next(), 'ours 1');
    await until(() => seenByGo.at(-1) === 'ours 1');
    assert.equal((await watcher.do('leader', 'e')).value, 'ours 1');

    const won = peer.do('campaign', 'e', { value: 'Go 1' });
    await inLine('e', 2);
    await leadership.proclaim('ours 2');
    assert.equal(await next(), 'ours 2');
    await until(() => seenByGo.at(-1) === 'ours 2');
    await leadership.resign();
    await won;
    assert.equal(await next(), 'Go 1');
    assert.equal((await election.leader())?.string(), 'Go 1');

    const again = election.campaign('ours 3');
    await inLine('e', 2);
    await peer.do('proclaim', 'e', { value: 'Go 2' });
    assert.equal(await next(), 'Go 2');
    await until(() => seenByGo.at(-1) === 'Go 2');
    await peer.do('resign', 'e');
    const second = await again;
    assert.ok(second.fencingToken > leadership.fencingToken);
    assert.equal(await next(), 'ours 3');
    await second.resign();
    assert.equal(await next(), undefined, 'nobody leads at last');
    stop.abort();
    await assert.rejects(leaders.next());
  }));

test('candidates of both kinds lead in the order in which they came, also past one that gave up', () =>
  onStage(async ({ go, inLine, ours }) => {
    const terms: string[] = [];
    const first = await go();
    await first.do('campaign', 'e', { value: 'Go 1' });
    const impatient = new AbortController();
    const given = new Election(await ours(), 'e').campaign('ours 2', { signal: impatient.signal });
    given.catch(() => undefined); // It may reject before it is waited for.
    await inLine('e', 2);
    const third = await go();
    const thirdTerm = third.do('campaign', 'e', { value: 'Go 3' }).then(async () => {
      terms.push('Go 3');
      await third.do('resign', 'e');
    });
    await inLine('e', 3);
    const fourthTerm = new Election(await ours(), 'e').campaign('ours 4').then(async (leadership) => {
      terms.push('ours 4');
      await leadership.resign();
    });
    await inLine('e', 4);
    impatient.abort();
    await assert.rejects(given, { name: 'AbortError' });
    await inLine('e', 3);
    assert.deepEqual(terms, []);
    await first.do('resign', 'e');
    await Promise.all([thirdTerm, fourthTerm]);
    assert.deepEqual(terms, ['Go 3', 'ours 4']);
  }));

test("we lead when Go's leader is killed, and Go leads when our session ends without a word", () =>
  onStage(async ({ go, inLine, ours }) => {
    const doomed = await go(2);
    await doomed.do('campaign', 'e', { value: 'Go 1' });
    const session = await ours(2);
    const candidacy = new Election(session, 'e').campaign('ours 2');
    await inLine('e', 2);
    const heir = await go();
    const won = heir.do('campaign', 'e', { value: 'Go 3' });
    await inLine('e', 3);
    await doomed.crash();
    const leadership = await candidacy;
    assert.equal((await heir.do('leader', 'e')).value, 'ours 2');
    session.orphan();
    await won;
    assert.ok(leadership.signal.aborted);
    await assert.rejects(leadership.proclaim('too late'), { code: 'NOT_HELD' });
    await heir.do('resign', 'e');
  }));
