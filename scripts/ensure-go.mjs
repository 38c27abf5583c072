// Makes sure there is Go and etcd's Go client for the tests in test/interop: Debian's packages, installed when they are
// missing (some 500 MB), which is why these tests are not part of `npm test`.
import { existsSync } from 'node:fs';
import process from 'node:process';
import { install, isOnPath, isRootOnDebian } from './lib/debian.mjs';

const PACKAGES = ['golang-go', 'golang-etcd-server-dev'];
const CLIENT = '/usr/share/gocode/src/go.etcd.io/etcd/clientv3';

function isThere() {
  return isOnPath('go') && existsSync(CLIENT);
}

/** Returns when there is; else says in one line how to get it and ends this process with code 1. */
export function ensureGo() {
  if (isThere()) return;
  const how = `the tests in test/interop need Debian's packages ${PACKAGES.join(' and ')}`;
  if (!isRootOnDebian()) {
    console.error(`no Go, or no Go client of etcd: ${how}`);
    process.exit(1);
  }
  console.log(`installing Debian's ${PACKAGES.join(' and ')} …`);
  const { output } = install(PACKAGES);
  if (isThere()) return;
  console.error(`${output.trim()}\ncould not install them: ${how}`);
  process.exit(1);
}
