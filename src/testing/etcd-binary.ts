import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

/** An etcd executable and what it says of itself. */
export interface EtcdBinary {
  readonly file: string;
  /** As in `3.5.16`. */
  readonly version: string;
}

const known = new Map<string, Promise<EtcdBinary>>();

async function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env['PATH'] ?? '').split(path.delimiter)) {
    const file = path.join(folder, name);
    if (folder !== '' && (await isExecutable(file))) return file;
  }
  return undefined;
}

async function askVersion(file: string): Promise<EtcdBinary> {
  const { stdout } = await promisify(execFile)(file, ['--version']);
  const version = /etcd Version: *(\S+)/.exec(stdout)?.[1];
  if (version === undefined) throw new Error(`${file} --version does not answer as etcd does`);
  return { file, version };
}

/**
 * The etcd to run: `wanted`, else env CONCLAVE_ETCD, else `etcd` on PATH.
 * Rejects with one line that says how to get it when there is none.
 */
export async function findEtcd(wanted?: string): Promise<EtcdBinary> {
  const named = wanted ?? (process.env['CONCLAVE_ETCD'] || undefined);
  const file = named === undefined || !/[\\/]/.test(named) ? await onPath(named ?? 'etcd') : named;
  if (file === undefined || !(await isExecutable(file))) {
    const where = named === undefined ? 'on PATH' : `at ${named}`;
    throw new Error(
      `no etcd found ${where}: on Debian run "apt-get install etcd-server", elsewhere put etcd on PATH or set CONCLAVE_ETCD to it`,
    );
  }
  const found = known.get(file) ?? askVersion(file);
  known.set(file, found);
  return found;
}

/** Whether `version` is `least` or later. */
export function isAtLeast(version: string, least: readonly number[]): boolean {
  const parts = version.split(/[.-]/).map(Number);
  for (const [at, wanted] of least.entries()) {
    const part = parts[at] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}
