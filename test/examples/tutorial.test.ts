// The tutorial's steps run as they stand, on three members that `conclave cluster start` has started, and print what a newcomer
// should see. Those that may run beside one another do.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Running, start } from '../cli/run.js';

const folder = new URL('../../../examples/tutorial/', import.meta.url);

/** What each step prints, line by line; lines of a set may come in any order. */
const PRINTS: Readonly<Record<string, readonly (string | RegExp | ReadonlySet<string>)[]>> = {
  '01-connect': [
    'the cluster has 3 members:',
    ...Array.from({ length: 3 }, () => /^ {2}http:\/\/127\.0\.0\.1:\d+$/),
    /^etcd 3\.\d+\.\d+; http:\/\/127\.0\.0\.1:\d+ leads$/,
    'with one member down calls go to another one',
    /^with nobody there: UNAVAILABLE: .*127\.0\.0\.1:1: cannot connect/,
  ],
  '02-put-get-delete': [
    'put: before it was red',
    'get: green, written 2 times',
    'get of what is not there: undefined',
    'prefix: apple banana cherry date',
    'from cherry on: cherry date',
    'the first key from "b" on: banana',
    'the 2 that were made last: date cherry; of 4, more: true',
    'how many: 4',
    'page 1: apple banana cherry',
    'page 2: date',
    'scan: apple banana cherry date',
    'deleted 1: apple',
    'deleted the rest: 3',
  ],
  '03-lease': [
    'granted for 2 s',
    /^[012] of 2 s are left, for tutorial\/lease\/worker$/,
    'it is in the list of leases: true',
    'kept alive once',
    ...Array.from({ length: 3 }, () => 'kept alive: 2 s again'),
    /^the key has expired, about [1-9] s later$/,
    'time to live of a lease that is gone: -1',
    'a put under it: LEASE_NOT_FOUND',
    'revoked: the key is gone at once',
  ],
  '04-txn': [
    'ann: then: the name is ann',
    'bob: else: the name is ann',
    'to cyd, if it is as it was read: done',
    'to dan, if it is as it was read: refused',
  ],
  '05-watch': [
    new Set([
      'the key: put tutorial/watch/clock = 1',
      'the prefix: put tutorial/watch/clock = 1',
      'the key: put tutorial/watch/clock = 2, before 1',
      'the prefix: put tutorial/watch/clock = 2, before 1',
      'the prefix: put tutorial/watch/clock = 3, before 2',
      'the key: put tutorial/watch/clock = 3, before 2',
      'the prefix: put tutorial/watch/guest = for 2 s',
    ]),
    'the prefix: delete tutorial/watch/guest, before for 2 s',
    'from the past, at once: 1 2 3',
  ],
  '06-config': [
    "at first: { level: 'info', workers: '4' }",
    "reloaded: { level: 'debug', workers: '4' }",
    "reloaded: { level: 'warn', workers: '4' }",
    "reloaded: { level: 'warn' }",
  ],
  '07-discovery': [
    'mail is served at: 10.0.0.1:25',
    'mail is served at: 10.0.0.1:25 10.0.0.2:25',
    'mail is served at: 10.0.0.2:25',
    'mail is served at: nowhere',
  ],
  '08-users-and-tls': [
    'users: root worker; roles: app root',
    'the worker writes below app/: done',
    'the worker writes elsewhere: PERMISSION_DENIED',
    'a wrong password: AUTH_FAILED',
    'without a user: USER_EMPTY',
    'a certificate of an authority we do not trust: TLS_FAILED',
    'the worker, when its role is taken away: PERMISSION_DENIED',
  ],
  '09-v2-keys': [
    'set /config/color = blue',
    'compareAndSwap: blue became green',
    /^error 101: Compare failed \(\[blue != green\]\)/,
    /^error 105: Key already exists \(\/config\/color\)/,
    /^error 100: Key not found \(\/nothing\)/,
    /^error 108: Directory not empty \(\/config\)/,
    'in /config: /config/color',
    /^in \/config: \/config\/session, for (60|59) s$/,
    'in order: one two',
    'the watcher saw: delete /config',
  ],
  '10-campaign': [
    'asked for 1 s, granted 2 s',
    'ann leads: true',
    'everybody sees: ann',
    'proclaimed: ann, on port 8080',
    'resigned: nobody leads',
  ],
  '11-two-candidates': [
    /^ann leads, with token \d+$/,
    'bob waits in line',
    'an observer sees: ann',
    'ann is killed; her lease runs on until etcd has not heard of her for its whole time',
    /^bob leads, with token \d+$/,
    /^bob leads no later than the lease allows: /,
    'the observer sees: bob',
  ],
  '12-election-keys': [
    'three candidates:',
    ...['ann', 'bob', 'cyd'].map(
      (who) => new RegExp(`^  tutorial/keys/[0-9a-f]+ = ${who}, created at \\d+, .*: true$`),
    ),
    'the leader is the one with the lowest: ann',
    'after it resigned:',
    ...['bob', 'cyd'].map(
      (who) => new RegExp(`^  tutorial/keys/[0-9a-f]+ = ${who}, created at \\d+, .*: true$`),
    ),
    'after all have gone: 0 keys',
  ],
  '13-history': [
    'then it was one, version 1',
    'then it was two, version 2',
    'then it was three, version 3',
    'after the deletion: undefined',
    'the header of an answer: cluster_id member_id revision raft_term',
    "it is the member we asked: true, in the leader's term: true",
    'the store has a leader: true; its revision has not gone back: true',
    'after compaction: COMPACTED',
  ],
};

function check(printed: readonly string[], wanted: (typeof PRINTS)[string]): void {
  const left = [...printed];
  for (const each of wanted) {
    if (typeof each === 'string') assert.equal(left.shift(), each);
    else if (each instanceof RegExp) assert.match(left.shift() ?? '(nothing more)', each);
    else assert.deepEqual(new Set(left.splice(0, each.size)), each);
  }
  assert.deepEqual(left, []);
}

describe('the tutorial', { concurrency: 3 }, () => {
  let cluster: Running;
  let endpoints: string[];

  before(async () => {
    const named = process.env['CONCLAVE_ETCD'];
    cluster = start(['cluster', 'start', '--port', '0', '--json'], {
      env: {
        ...(named !== undefined && { CONCLAVE_ETCD: named }),
        CONCLAVE_ETCD_PIDS: process.env['CONCLAVE_ETCD_PIDS'] ?? '',
      },
    });
    const [line = ''] = await cluster.lines(1);
    ({ endpoints } = JSON.parse(line) as { endpoints: string[] });
  });

  after(async () => {
    cluster.kill('SIGTERM');
    assert.equal(await cluster.ended, 0);
  });

  for (const [name, wanted] of Object.entries(PRINTS)) {
    it(`step ${name} prints what it should`, { timeout: 60_000 }, async () => {
      const file = fileURLToPath(new URL(`../../examples/tutorial/${name}.js`, import.meta.url));
      const named = process.env['CONCLAVE_ETCD'];
      await using step = new Running(process.execPath, [file], {
        env: {
          ...(named !== undefined && { CONCLAVE_ETCD: named }),
          CONCLAVE_ENDPOINTS: endpoints.join(),
          CONCLAVE_ETCD_PIDS: process.env['CONCLAVE_ETCD_PIDS'] ?? '',
          TUTORIAL_EVERY_MS: '100',
          TUTORIAL_TTL: '2',
        },
      });
      assert.equal(await step.ended, 0, step.stderr);
      check(step.stdout.trimEnd().split('\n'), wanted);
    });
  }

  it(
    'is run by npm run tutorial, step by step, on a cluster that ends with it',
    { timeout: 120_000 },
    async () => {
      const script = fileURLToPath(new URL('../../../scripts/tutorial.mjs', import.meta.url));
      const named = process.env['CONCLAVE_ETCD'];
      const env = {
        ...(named !== undefined && { CONCLAVE_ETCD: named }),
        CONCLAVE_ETCD_PIDS: process.env['CONCLAVE_ETCD_PIDS'] ?? '',
      };
      await using all = new Running(process.execPath, [script, 'txn'], { env });
      assert.equal(await all.ended, 0, all.stderr);
      const [first = '', ...lines] = all.stdout.trimEnd().split('\n');
      assert.match(first, /^a cluster of three: http:\S+ http:\S+ http:\S+$/);
      assert.equal(lines[1], '── 04-txn');
      check(lines.slice(4), PRINTS['04-txn'] ?? []);
      await using none = new Running(process.execPath, [script, 'nothing'], { env });
      assert.equal(await none.ended, 2);
    },
  );

  it('has a test for each step, and each begins with a sentence about it', async () => {
    const names = (await readdir(folder))
      .filter((name) => /^\d/.test(name))
      .map((name) => name.replace(/\.ts$/, ''));
    assert.deepEqual(names.sort(), Object.keys(PRINTS).sort());
    for (const name of names)
      assert.match(await readFile(new URL(`${name}.ts`, folder), 'utf8'), /^\/\/ \S.*\.\)?\n/);
  });
});
