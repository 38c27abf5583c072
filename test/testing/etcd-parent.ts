// Run by etcd-cluster.test.ts: starts an etcd, says which, and ends in the way given without closing it.
import { readFileSync } from 'node:fs';
import { startEtcd } from 'conclave/testing';

const cluster = await startEtcd();
const pid = cluster.members[0]?.pid ?? 0;
const dataDir = /--data-dir=([^\0]+)\//.exec(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.[1];
const way = process.argv[2] ?? '';
process.stdin.once('data', () => {
  if (way === 'exit') process.exit(3);
  if (way === 'throw') throw new Error('uncaught');
  // Else there is nothing left to do, and an etcd that runs must not keep this process.
  process.stdin.destroy();
});
process.stdout.write(`${JSON.stringify({ pid, folder: dataDir })}\n`);
