// Makes sure there is a real etcd for the tests: `etcd` on PATH or env CONCLAVE_ETCD, else Debian's package, unpacked into
// build/ (not installed: an etcd service of the machine is none of our business).
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { isDebian, isExecutable, isOnPath, unpack } from './lib/debian.mjs';
import { top } from './lib/steps.mjs';

const HOW =
  'on Debian run "apt-get install etcd-server etcd-client", elsewhere put etcd on PATH or set CONCLAVE_ETCD to it';

/**
 * Returns when there is an etcd to run, then also on PATH; else says in one line how to get it and ends this process with
 * code 1. `etcdctl` is brought along when it can be, but is not asked for: the tests that need it say so.
 */
export function ensureEtcd() {
  const named = process.env.CONCLAVE_ETCD;
  if (named && !(named.includes('/') ? isExecutable(named) : isOnPath(named))) {
    console.error(`CONCLAVE_ETCD is set to ${named}, which cannot be run`);
    process.exit(1);
  }
  if (!named && !isOnPath('etcd') && !bring('etcd', 'etcd-server')) process.exit(1);
  if (!isOnPath('etcdctl')) bring('etcdctl', 'etcd-client');
}

/** Puts a program of a Debian package on PATH, for this process and those it starts; says why when it cannot. */
function bring(program, from) {
  const target = path.join(top, 'build/debian', from);
  const folder = path.join(target, 'usr/bin');
  const file = path.join(folder, program);
  if (!isExecutable(file)) {
    if (!isDebian()) {
      console.error(`no ${program} found: ${HOW}`);
      return false;
    }
    console.log(`no ${program} found: unpacking Debian's ${from} into ${path.relative(top, target)} …`);
    const { failed, output } = unpack(from, target);
    const says = failed ? undefined : spawnSync(file, ['--version'], { encoding: 'utf8' }); // etcdctl has it, too.
    if (says === undefined || (says.status !== 0 && program === 'etcd')) {
      console.error(`${(says?.stderr ?? output).trim()}\ncould not unpack ${from}: ${HOW}`);
      return false;
    }
  }
  process.env.PATH = `${process.env.PATH ?? ''}${path.delimiter}${folder}`;
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) ensureEtcd();
