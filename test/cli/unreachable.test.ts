/** Servers that cannot be used: what is said about them, and that it is said at once. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { ConclaveError } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { explain, readTarget } from '#conclave/cli/connect.js';
import { LOCK_PAGE } from '#conclave/cli/lock.js';
import { readArgs } from '#conclave/cli/usage.js';
import { freePort, silentServer } from './places.js';
import { conclave, type RunOptions } from './run.js';

/** Both ways to be told of a server. */
const NAMED: readonly ((endpoint: string) => RunOptions)[] = [
  (endpoint) => ({ env: { CONCLAVE_ENDPOINTS: endpoint, ETCDCTL_ENDPOINTS: '127.0.0.1:1' } }),
  (endpoint) => ({ env: { ETCDCTL_ENDPOINTS: endpoint } }),
];

/** These words come from the look before the first call, which would wait 5 s. */
async function saysAtOnce(words: (endpoint: string) => RegExp, endpoint: string): Promise<void> {
  const runs = NAMED.map((how) => conclave(['lock', 'x', '--', 'echo', 'ran'], how(endpoint)));
  runs.push(conclave(['elect', 'x', '--endpoints', endpoint, '--', 'echo', 'ran']));
  runs.push(conclave(['elect', '--listen', 'x', '--endpoints', endpoint]));
  runs.push(conclave(['demo', '--endpoints', endpoint]));
  for (const { code, stderr, stdout } of await Promise.all(runs)) {
    assert.equal(code, 69);
    assert.equal(stdout, '');
    assert.match(stderr, words(endpoint));
    assert.match(stderr, /; check --endpoints$/m);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  }
}

describe('a server that cannot be used', () => {
  it('is named at once when nothing listens there, with exit code 69', async () => {
    const endpoint = `127.0.0.1:${await freePort()}`;
    await saysAtOnce((place) => new RegExp(`nothing listens at ${place}`), endpoint);
    const { code, stderr } = await conclave(['lock', 'x', '--endpoints', 'unix:///nowhere/s', '--', 'true']);
    assert.equal(code, 69);
    assert.match(stderr, /nothing listens at unix:\/nowhere\/s/);
  });

  it('is named at once when there is no such host', async () => {
    // Which of them depends on whether the machine has a name server that can be asked.
    await saysAtOnce(
      () => /there is no host no-such\.invalid|no-such\.invalid:1 cannot be reached/,
      'no-such.invalid:1',
    );
  });

  it('is no trouble when another one listens', async () => {
    await using server = await EmbeddedServer.start();
    const endpoints = `127.0.0.1:${await freePort()},${server.endpoint},no-such.invalid:1`;
    const { code, stdout } = await conclave(['lock', 'x', '--endpoints', endpoints, '--', 'echo', 'ran']);
    assert.deepEqual([code, stdout], [0, 'ran\n']);
  });

  it('makes the error say how to start one when none was named', (t) => {
    // Looked at without a run: whoever listens at the default port here is not to be asked for locks.
    const target = readTarget(readArgs(LOCK_PAGE, ['x']), {});
    const error = new ConclaveError('UNAVAILABLE', `nothing listens at ${target.endpoints.join()}`);
    const before = process.env['npm_lifecycle_event'];
    t.after(() => {
      if (before === undefined) delete process.env['npm_lifecycle_event'];
      else process.env['npm_lifecycle_event'] = before;
    });
    for (const [event, start] of [
      ['test', 'or: conclave serve;'],
      ['conclave', 'or: npm run conclave -- serve;'],
    ] as const) {
      process.env['npm_lifecycle_event'] = event;
      assert.match(explain(error, target), /^nothing listens at 127\.0\.0\.1:2379; start etcd/);
      assert.ok(explain(error, target).includes(start));
    }
  });

  it('is said not to be etcd when it speaks something else', async () => {
    await using server = await silentServer();
    const { code, stderr } = await conclave(['lock', 'x', '--endpoints', server.endpoint, '--', 'true']);
    assert.equal(code, 69);
    assert.match(stderr, new RegExp(`${server.endpoint} speaks HTTP/1, not gRPC.*; check --endpoints`));
  });
});
