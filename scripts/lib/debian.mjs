// What the scripts that install a program share: looking for it, and Debian's packages.
import { accessSync, chmodSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';

const POLICY = '/usr/sbin/policy-rc.d';

export function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export function isOnPath(name) {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return folders.some((folder) => folder !== '' && isExecutable(path.join(folder, name)));
}

/** Runs a command quietly, as root; its output is shown only when it fails. */
function asRoot(command, args) {
  const sudo = process.getuid() === 0 ? [] : ['sudo', '-n'];
  const [first, ...rest] = [...sudo, 'env', 'DEBIAN_FRONTEND=noninteractive', command, ...args];
  const result = spawnSync(first, rest, { encoding: 'utf8' });
  const failed = result.error !== undefined || result.status !== 0;
  return { failed, output: result.error?.message ?? `${result.stdout}${result.stderr}` };
}

export function isRootOnDebian() {
  if (!existsSync('/etc/debian_version') || !isOnPath('apt-get')) return false;
  return process.getuid() === 0 || !asRoot('true', []).failed;
}

/** Installs the packages without letting Debian start etcd as a service: a server of its own is not ours to leave behind. */
export function install(packages) {
  const ownPolicy = process.getuid() === 0 && !existsSync(POLICY);
  if (ownPolicy) {
    writeFileSync(POLICY, '#!/bin/sh\nexit 101\n');
    chmodSync(POLICY, 0o755);
  }
  try {
    const args = ['install', '-y', '--no-install-recommends', ...packages];
    let result = asRoot('apt-get', args);
    if (result.failed) {
      // The package lists may be missing or old.
      asRoot('apt-get', ['update']);
      result = asRoot('apt-get', args);
    }
    if (existsSync('/run/systemd/system')) asRoot('systemctl', ['disable', '--now', 'etcd']);
    return result;
  } finally {
    if (ownPolicy) rmSync(POLICY, { force: true });
  }
}
