import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { until } from '../support/until.js';

/** The built command. */
export const MAIN = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

/** How a command is run. */
export interface RunOptions {
  /** Added to the environment, which otherwise names no server. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A command that runs, or has run. */
export class Running {
  readonly process: ChildProcess;
  stdout = '';
  stderr = '';
  /** Resolves with the exit code once the command has ended and its output is complete; a signal's name if one ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;

  constructor(file: string, args: readonly string[], options: RunOptions = {}) {
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^(CONCLAVE|ETCDCTL)_|^NODE_/.test(name)),
    );
    this.process = spawn(file, args, {
      env: { ...env, ETCDCTL_API: '3', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.process.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.process.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.process.stdin?.on('error', () => undefined);
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject);
      this.process.once('close', (code, signal) => resolve(signal ?? code ?? -1));
    });
    // Looked at later, or not at all.
    this.ended.catch(() => undefined);
  }

  get pid(): number {
    return this.process.pid ?? -1;
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Ends its input, which ends a command that reads to the end. */
  endInput(): void {
    this.process.stdin?.end();
  }

  /** Resolves with the whole lines of its output once there are `count`. */
  async lines(count: number): Promise<string[]> {
    const whole = (): string[] => this.stdout.split('\n').slice(0, -1);
    await until(() => whole().length >= count || !this.running, {
      timeoutMs: 60_000, // A script may build first, on a busy machine.
      what: `${count} lines of output, not ${JSON.stringify(this.stdout + this.stderr)}`,
    });
    return whole();
  }

  /** For the end of a test: kills it if it still runs, and waits until it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) this.kill('SIGKILL');
    await this.ended.catch(() => undefined);
  }
}

/** Starts `conclave ARGS`. */
export function start(args: readonly string[], options: RunOptions = {}): Running {
  return new Running(process.execPath, [MAIN, ...args], options);
}

/** Runs `conclave ARGS` to its end. */
export async function conclave(
  args: readonly string[],
  options: RunOptions = {},
): Promise<{ readonly code: number | NodeJS.Signals; readonly stdout: string; readonly stderr: string }> {
  const running = start(args, options);
  running.endInput();
  const code = await running.ended;
  return { code, stderr: running.stderr, stdout: running.stdout };
}

/** Whether a process of this id runs or is stopped; one that has ended stays as a zombie until its parent takes note. */
export function exists(pid: number): boolean {
  return !['X', 'Z', ''].includes(stateOf(pid));
}

/** A process's state as ps has it: T is stopped, Z ended; empty when there is no such process. */
export function stateOf(pid: number): string {
  return spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).stdout.slice(0, 1);
}
