/** How the scripts get etcd and Go on a machine without them: stubs of its tools tell what was asked of them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const SCRIPTS = fileURLToPath(new URL('../../../scripts', import.meta.url));

/** What apt-get does here; $LISTS says whether the machine's own package lists are there. */
const APT_GET = `
case "$*" in
  *update) ;;
  *lists=*|*install*) ;;
  *) [ "$LISTS" = yes ] || { echo "E: Unable to locate package"; exit 100; } ;;
esac
for name; do :; done
case "$*" in *download*) echo x >"$name.deb" ;; esac`;
/** Unpacks any package into the one program that is wanted of it. */
const DPKG = `
case $2 in *etcd-server.deb) program=etcd ;; *) program=etcdctl ;; esac
/bin/mkdir -p "$3/usr/bin"
printf '#!/bin/sh\\necho "etcd Version: 3.4.0"\\n' >"$3/usr/bin/$program"
/bin/chmod +x "$3/usr/bin/$program"`;

/** A copy of the scripts, and a PATH that holds stubs only. */
class Machine implements Disposable {
  readonly top = mkdtempSync(path.join(tmpdir(), 'conclave-programs-'));
  readonly #log = path.join(this.top, 'log');
  readonly #bin = path.join(this.top, 'bin');

  constructor(...more: readonly string[]) {
    mkdirSync(this.#bin);
    cpSync(SCRIPTS, path.join(this.top, 'scripts'), { recursive: true });
    for (const name of ['systemctl', 'service', 'update-rc.d', 'deb-systemd-invoke', ...more])
      this.#stub(name);
    this.#stub('apt-get', APT_GET);
    this.#stub('dpkg', DPKG);
    this.#stub('sudo', 'shift; exec "$@"');
    symlinkSync('/usr/bin/env', path.join(this.#bin, 'env'));
  }

  /** Runs a script; tells what was asked of the machine, one line for each command. */
  run(
    script: string,
    env: Readonly<Record<string, string>> = {},
  ): { asked: string[]; code: number; said: string } {
    writeFileSync(this.#log, '');
    const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(this.top, 'scripts', script)], {
      encoding: 'utf8',
      env: { LISTS: 'yes', PATH: this.#bin, ...env },
    });
    const asked = readFileSync(this.#log, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
    return { asked, code: status ?? -1, said: stdout + stderr };
  }

  [Symbol.dispose](): void {
    rmSync(this.top, { force: true, recursive: true });
  }

  #stub(name: string, script = ''): void {
    const file = path.join(this.#bin, name);
    writeFileSync(file, `#!/bin/sh\necho "${name} $*" >>${this.#log}\n${script}\n`);
    chmodSync(file, 0o755);
  }
}

describe('a machine without etcd', () => {
  it('gets it unpacked into build/, and nothing is installed, started, stopped or configured', () => {
    using machine = new Machine();
    const { asked, code, said } = machine.run('ensure-etcd.mjs');
    assert.equal(code, 0, said);
    assert.match(said, /no etcd found: unpacking Debian's etcd-server into build\/debian\/etcd-server/);
    assert.match(
      asked.join('\n'),
      /^apt-get .* download etcd-server\ndpkg -x .*\napt-get .* download etcd-client\ndpkg -x .*$/,
    );
    assert.ok(existsSync(path.join(machine.top, 'build/debian/etcd-server/usr/bin/etcd')));
    assert.deepEqual(readdirSync(path.join(machine.top, 'build')), ['debian'], 'no folder of apt is left');
    assert.deepEqual(machine.run('ensure-etcd.mjs'), { asked: [], code: 0, said: '' });
  });

  it('gets it by package lists of its own where the machine has none', () => {
    using machine = new Machine();
    const { asked, code, said } = machine.run('ensure-etcd.mjs', { LISTS: 'no' });
    assert.equal(code, 0, said);
    for (const line of asked.filter((each) => /^apt-get .*update/.test(each))) {
      assert.match(line, new RegExp(`Dir::State::lists=${machine.top}/build/apt-`));
    }
    assert.equal(
      asked.filter((line) => /^(apt-get .*(download|update)|dpkg -x) ?/.test(line)).length,
      asked.length,
    );
  });

  it('and without Debian is told how to get it', () => {
    using machine = new Machine();
    rmSync(path.join(machine.top, 'bin/apt-get'));
    const { asked, code, said } = machine.run('ensure-etcd.mjs');
    assert.deepEqual([asked, code], [[], 1]);
    assert.match(said, /^no etcd found: on Debian run "apt-get install etcd-server/);
  });
});

it('a machine that has etcd, and lacks etcdctl, keeps it as it is', () => {
  using machine = new Machine('etcd');
  const { asked, code, said } = machine.run('ensure-etcd.mjs');
  assert.equal(code, 0, said);
  assert.match(asked.join('\n'), /^apt-get .* download etcd-client\ndpkg -x .*$/);
});

it('a machine without Go gets the two packages installed, and nothing else is done to it', () => {
  using machine = new Machine();
  writeFileSync(
    path.join(machine.top, 'run.mjs'),
    'import { ensureGo } from "./scripts/ensure-go.mjs";\nensureGo();\n',
  );
  const { asked, code, said } = machine.run('../run.mjs');
  assert.equal(code, 1, 'the stub has not installed anything');
  assert.match(said, /^installing Debian's golang-go and golang-etcd-server-dev/);
  const own = asked.filter((line) => !line.startsWith('sudo'));
  assert.match(own.join('\n'), /^apt-get install -y .*--no-remove golang-go golang-etcd-server-dev$/);
});
