import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { conclave } from './run.js';

/** Bad input: what is typed, and what the one line on stderr must name. */
const BAD: readonly (readonly [readonly string[], RegExp])[] = [
  [['frobnicate'], /no command "frobnicate".*cluster.*demo.*elect.*lock.*ls.*serve/],
  [['help', 'frobnicate'], /no command "frobnicate".*cluster.*demo.*elect.*lock.*ls.*serve/],
  [['toString'], /no command "toString"/],
  [['lock'], /name is missing: conclave lock NAME/],
  [['lock', '', '--', 'true'], /name of the lock must not be empty/],
  [['elect', '', '--', 'true'], /name of the election must not be empty/],
  [['lock', 'x', 'sleep', '1'], /put "--" before the command: conclave lock x -- sleep 1/],
  [['lock', 'x', '--'], /command is missing after "--"/],
  [['lock', 'x', '--tll', '5', '--', 'true'], /'--tll'.*conclave lock --help/],
  [['lock', 'x', '-q', '--', 'true'], /'-q'/],
  [['lock', 'x', '-n', '-w', '1', '--', 'true'], /--nonblock or --wait/],
  [['lock', 'x', '-w', '--', 'true'], /-w needs a value/],
  [['lock', 'x', '-w', 'soon', '--', 'true'], /--wait must be a number >= 0, not "soon"/],
  [['lock', 'x', '--wait=-1', '--', 'true'], /--wait must be a number >= 0, not "-1"/],
  [['lock', 'x', '--wait=Infinity', '--', 'true'], /--wait must be a number >= 0, not "Infinity"/],
  [['lock', 'x', '--ttl', '0', '--', 'true'], /--ttl must be a whole number from 1 .*, not "0"/],
  [['lock', 'x', '--ttl', '0.5', '--', 'true'], /--ttl must be a whole number from 1 .*, not "0.5"/],
  [
    ['lock', 'x', '--ttl', 'Infinity', '--', 'true'],
    /--ttl must be a whole number from 1 .*, not "Infinity"/,
  ],
  [
    ['lock', 'x', '-E', '256', '--', 'true'],
    /--conflict-exit-code must be a whole number from 0 to 255, not "256"/,
  ],
  [['lock', 'x', '--json', '--', 'true'], /--json goes without a command/],
  [['lock', 'x', '--endpoints', 'nowhere', '--', 'true'], /endpoint "nowhere" is not one.*HOST:PORT/],
  [['lock', 'x', '--endpoints', '127.0.0.1:99999', '--', 'true'], /endpoint "127.0.0.1:99999" is not one/],
  [['lock', 'x', '--endpoints', '127.0.0.1:1,', '--', 'true'], /endpoint "" is not one/],
  [['lock', 'x', '--cacert', '/nowhere.pem', '--', 'true'], /--cacert \/nowhere.pem cannot be read: ENOENT/],
  [['lock', 'x', '--cert', '/dev/null', '--', 'true'], /--cert and --key go together/],
  [['lock', 'x', '--user', 'ann', '--', 'true'], /--user ann has no password.*CONCLAVE_PASSWORD/],
  [['lock', 'x', '--user', ':secret', '--', 'true'], /--user names nobody before its ":"/],
  [
    ['lock', 'x', '--endpoints', 'http://root:secret@h:1', '--', 'true'],
    /endpoint "http:\/\/…@h:1" is not one/,
  ],
  [['lock', 'x', '-w', '0x2', '--', 'true'], /--wait must be a number >= 0, not "0x2"/],
  [['lock', 'n\u{fffd}', '--', 'true'], /argument "n\u{fffd}" is not UTF-8/u],
  [['lock', 'x', '--', 'rm', 'caf\u{fffd}'], /argument "caf\u{fffd}" is not UTF-8/u],
  ...['--value=v', '-n', '-w1', '-E1', '--ttl=3'].map((option): [string[], RegExp] => [
    ['elect', '--listen', option, 'x'],
    /--listen goes without --/,
  ]),
  [['elect', '--listen', 'x', '--', 'true'], /--listen goes without a command/],
  [['serve', '--port', '70000'], /--port must be a whole number from 0 to 65535, not "70000"/],
  [['serve', '--port', '1', '--socket', '/tmp/x'], /--socket goes without --port/],
  [['serve', '--auto-compaction-retention', 'soon'], /takes a number of revisions, or a time such as 90s/],
  [['serve', 'x'], /serve takes no "x"/],
  [['cluster'], /type "conclave cluster start"; Ctrl-C or SIGTERM ends it/],
  [['cluster', 'stop'], /type "conclave cluster start", not "stop"/],
  [['cluster', 'start', 'x'], /cluster start takes no "x"/],
  [['cluster', 'start', '--members', '2'], /--members must be 1, 3, 5, not 2/],
  [['cluster', 'start', '--members', 'three'], /--members must be a whole number from 1 to 5, not "three"/],
  [['cluster', 'start', '--port', '65530'], /--port must be a whole number from 0 to 65526, not "65530"/],
  [['cluster', 'start', '--data-dir', ''], /--data-dir and --etcd must not be empty/],
  [['migrate-v2', 'x'], /a path of the v2 store begins with "\/", not "x"/],
  [['migrate-v2', '--prefix', ''], /prefix must not be empty/],
  [['migrate-v2', '--from', 'nowhere'], /endpoint "nowhere" is not one/],
  [['migrate-v2', '--from-user', 'ann'], /--from-user ann has no password.*CONCLAVE_FROM_PASSWORD/],
  [['migrate-v2', '--', 'true'], /migrate-v2 takes no command/],
  [['ls', 'a', 'b'], /ls takes one prefix, not "b", too/],
  [['ls', '--kind', 'thing'], /--kind "thing" is none of lock, rw-lock/],
  [['graph', '--dot', '--json'], /--json or --dot, not both/],
  [['history', 'x', '--at', 'soon'], /--at must be a time such as .*, not "soon"/],
  [['release'], /a name is missing: conclave release/],
  [['release', 'x', '--json'], /--json goes with --yes/],
  [['show', 'a', 'b'], /show takes one name, not "b", too/],
  [['ls', '--', 'x'], /ls takes no command/],
  [['demo', 'x'], /demo takes no "x"/],
  [['demo', '--ttl', '9'], /--ttl must be a whole number from 1 to 5, not "9"/],
];

describe('the conclave command', () => {
  it('refuses bad input in one line that names it, with exit code 64', { timeout: 180_000 }, async () => {
    for (const [args, wanted] of BAD) {
      const { code, stderr, stdout } = await conclave(args);
      assert.equal(code, 64, `${args.join(' ')}: ${stderr}`);
      assert.match(stderr, wanted);
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
      assert.equal(stdout, '');
      assert.doesNotMatch(stderr, /secret/);
    }
  });

  it('prints a page for each command, and its version', async () => {
    for (const name of [
      'demo',
      'elect',
      'graph',
      'history',
      'lock',
      'ls',
      'migrate-v2',
      'release',
      'serve',
      'show',
    ]) {
      const { code, stdout } = await conclave([name, '--help']);
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`^Usage: conclave ${name}[^]*--help`));
      for (const line of stdout.split('\n')) assert.ok(line.length <= 120, line);
    }
    assert.match((await conclave(['--help'])).stdout, /Usage: conclave COMMAND/);
    assert.match((await conclave(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
    assert.equal((await conclave([])).code, 64);
  });

  it('leaves --help after "--" to the command', async () => {
    const { code, stderr } = await conclave(['lock', '--', 'true', '--help']);
    assert.equal(code, 64);
    assert.match(stderr, /name is missing/);
  });
});
