import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { top } from './top.js';

/** Where Debian's golang-etcd-server-dev puts Go's client. */
const GOPATH = '/usr/share/gocode';
const BINARY = path.join(top, 'build/bench-go');

/**
 * Builds bench/go against Debian's packages and returns the program; undefined, after saying why, where that cannot be.
 * Nothing is downloaded.
 */
export function buildGo(): string | undefined {
  if (!existsSync(path.join(GOPATH, 'src/go.etcd.io/etcd/clientv3'))) {
    console.error("without Go's client: golang-etcd-server-dev (Debian) is not installed");
    return undefined;
  }
  const built = spawnSync('go', ['build', '-o', BINARY, '.'], {
    cwd: path.join(top, 'bench/go'),
    encoding: 'utf8',
    env: { ...process.env, GO111MODULE: 'off', GOFLAGS: '', GOPATH },
  });
  if (built.status === 0) return BINARY;
  console.error(`without Go's client: ${built.error?.message ?? built.stderr.trim()}`);
  return undefined;
}

/** Runs the program; resolves with what its last line says. */
export async function runGo(binary: string, args: readonly string[]): Promise<Record<string, number>> {
  const { stdout } = await promisify(execFile)(binary, args);
  const result: unknown = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  if (typeof result !== 'object' || result === null) throw new Error(`bench/go answered ${stdout}`);
  return result as Record<string, number>;
}

/** Handovers per second of Go's `concurrency.Mutex`, all sessions on one client. */
export async function goHandovers(
  binary: string,
  ring: { readonly endpoint: string; readonly name: string; readonly size: number; readonly seconds: number },
): Promise<number> {
  const { handover } = await runGo(binary, [
    ...['-endpoint', ring.endpoint, '-name', ring.name],
    ...['-sessions', String(ring.size), '-seconds', String(ring.seconds)],
    'handover',
  ]);
  return handover ?? Number.NaN;
}
