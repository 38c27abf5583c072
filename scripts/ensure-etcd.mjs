// Makes sure there is a real etcd for the tests: `etcd` on PATH or env CONCLAVE_ETCD, else Debian's package.
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { install, isExecutable, isOnPath, isRootOnDebian } from './lib/debian.mjs';

const HOW =
  'on Debian run "apt-get install etcd-server etcd-client", elsewhere put etcd on PATH or set CONCLAVE_ETCD to it';

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
