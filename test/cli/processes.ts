/** The processes that a test looks at: who belongs to whom, and who is gone by when. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';

import type { Client } from 'conclave';
import { until } from '../support/until.js';
import { exists } from './run.js';

interface Row {
  readonly pid: number;
  readonly parent: number;
  readonly args: string;
}

function table(): Row[] {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' });
  return stdout.split('\n').map((line) => {
    const [, pid, parent, args = ''] = /^ *(\d+) +(\d+) (.*)$/.exec(line) ?? [];
    return { args, parent: Number(parent), pid: Number(pid) };
  });
}

/** The child processes of a process. */
export function childrenOf(pid: number): number[] {
  return table()
    .filter((row) => row.parent === pid)
    .map((row) => row.pid);
}

/** The guardian of a `conclave lock`, once it has one that is not `before`. */
export async function guardianOf(pid: number, before?: number): Promise<number> {
  const found = (): number | undefined =>
    table().find((row) => row.parent === pid && row.args.includes('guardian-process') && row.pid !== before)
      ?.pid;
  return until(found, { what: 'a guardian' });
}

/** Resolves once the only key below `name/` is gone; fails if one of the processes is still there at that moment. */
export async function goneBeforeKey(client: Client, name: string, pids: readonly number[]): Promise<void> {
  const watch = client.watch({ prefix: `${name}/` });
  const { kvs } = await client.kv.range({ prefix: `${name}/` });
  assert.equal(kvs.length, 1, 'the key is there to begin with');
  for await (const batch of watch) {
    if (batch.events.some((event) => event.type === 'delete')) break;
  }
  assert.deepEqual(pids.filter(exists), [], 'the command outlived the lock');
}

/** Takes the lock away from who holds it: its lease is revoked. */
export async function revoke(client: Client, name: string): Promise<void> {
  const [kv] = (await client.kv.range({ prefix: `${name}/` })).kvs;
  await client.lease.revoke(kv?.leaseId ?? 0n);
}
