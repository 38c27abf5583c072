// Which of etcd's known faults a version has: its line has the fix, or not yet, or not at all.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { faultsOf, knownFaultsOf } from '#conclave/etcd/admin/known-faults.js';

const KEEPALIVE = 'keepalive-of-revoked-lease';
const TXN = 'txn-applied-in-part';
const READ = 'stale-read-after-pause';
const WATCH = 'watch-beyond-permission';
const ALL = [KEEPALIVE, TXN, READ, WATCH];

const VERSIONS: Readonly<Record<string, readonly string[]>> = {
  // The line 3.4 has a fix for one of them only; those before it have none.
  '3.4.23': ALL,
  '3.4.37': ALL,
  '3.4.38': [TXN, READ, WATCH],
  '3.4.100': [TXN, READ, WATCH],
  '3.3.27': ALL,
  '3.5.16': ALL,
  '3.5.17': [KEEPALIVE, READ, WATCH],
  '3.5.22': [KEEPALIVE, READ, WATCH],
  '3.5.23': [READ, WATCH],
  '3.5.27': [READ, WATCH],
  '3.5.28': [WATCH],
  '3.5.30': [WATCH],
  '3.5.33': [],
  '3.6.0': [KEEPALIVE, READ, WATCH],
  '3.6.5': [READ, WATCH],
  '3.6.9': [WATCH],
  '3.6.14': [],
  '3.7.0': [WATCH],
  '3.7.1': [],
  '3.8.0': [],
  '3.10.0': [],
  // A pre-release comes before its release.
  '3.5.17-rc.0': ALL,
  '3.5.16-rc.0': ALL,
  '3.5.18-rc.0': [KEEPALIVE, READ, WATCH],
  '3.7.1-rc.1': [WATCH],
  '3.8.0-alpha.0': [],
  // How it was built changes nothing, but who built it does.
  '3.5.30+git': [WATCH],
  '3.5.17-rc.0+git.5': ALL,
  '3.5.16+conclave': [],
  // What is no version of etcd 3 says nothing.
  '2.3.8': [],
  '4.0.0': [],
  '': [],
  '3.4': [],
  '3.4.x': [],
  'v3.4.23': [],
  '3.4.23 ': [],
  '13.4.23': [],
  not_decided: [],
};

describe('the known faults of a version', () => {
  for (const [version, expected] of Object.entries(VERSIONS))
    test(`${JSON.stringify(version)}: ${expected.length === 0 ? 'none' : expected.join(', ')}`, () => {
      assert.deepEqual(
        faultsOf(version).map(({ id }) => id),
        expected,
      );
    });

  test('of several members each fault is told once, with those who have it', () => {
    const members = ['3.5.33', '3.4.38', '3.5.17'].map((version, n) => ({
      endpoint: `http://${n}`,
      version,
    }));
    const [, old, newer] = members;
    assert.deepEqual(
      knownFaultsOf(members).map(({ id, members: who }) => [id, who]),
      [
        [KEEPALIVE, [newer]],
        [TXN, [old]],
        [READ, [old, newer]],
        [WATCH, [old, newer]],
      ],
    );
    assert.deepEqual(knownFaultsOf([]), []);
  });
});
