// Makes sure there is a real etcd for the tests: `etcd` on PATH or env CONCLAVE_ETCD, else Debian's package.
import { accessSync, chmodSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const HOW =
  'on Debian run "apt-get install etcd-server etcd-client", elsewhere put etcd on PATH or set CONCLAVE_ETCD to it';
const POLICY = '/usr/sbin/policy-rc.d';

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isOnPath(name) {
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

function isRootOnDebian() {
  if (!existsSync('/etc/debian_version') || !isOnPath('apt-get')) return false;
  return process.getuid() === 0 || !asRoot('true', []).failed;
}

/** Installs the packages without letting Debian start etcd as a service: a server of its own is not ours to leave behind. */
function install(packages) {
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

/**
 * Returns when there is an etcd to run; else says in one line how to get it and ends this process with code 1.
 * `etcdctl` is brought along when it can be, but is not asked for: the tests that need it say so.
 */
export function ensureEtcd() {
  const named = process.env.CONCLAVE_ETCD;
  if (named && !(named.includes('/') ? isExecutable(named) : isOnPath(named))) {
    console.error(`CONCLAVE_ETCD is set to ${named}, which cannot be run`);
    process.exit(1);
  }
  const packages = [];
  if (!named && !isOnPath('etcd')) packages.push('etcd-server');
  if (!isOnPath('etcdctl')) packages.push('etcd-client');
  if (packages.length === 0) return;
  const needed = packages.includes('etcd-server');
  if (!isRootOnDebian()) {
    if (!needed) return;
    console.error(`no etcd found: ${HOW}`);
    process.exit(1);
  }
  console.log(`${needed ? 'no etcd' : 'no etcdctl'} found: installing Debian's ${packages.join(' and ')} …`);
  const { failed, output } = install(packages);
  if (failed || (needed && !isOnPath('etcd'))) {
    console.error(`${output.trim()}\ncould not install ${packages.join(' and ')}: ${HOW}`);
    if (needed) process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) ensureEtcd();
