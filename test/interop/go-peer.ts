import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SOURCES = fileURLToPath(new URL('../../../test/interop/go', import.meta.url));
/** Where Debian's golang-etcd-server-dev puts etcd's packages. */
const GOPATH = '/usr/share/gocode';

/** What the Go program answers. */
export interface Answer {
  readonly id: number;
  readonly error?: string;
  readonly revision?: number;
  readonly value?: string;
  readonly count?: number;
  readonly key?: string;
  readonly more?: boolean;
}

/** The Go program, built into a temporary folder; gone when it is disposed. */
export interface GoProgram extends AsyncDisposable {
  /** Starts a process of it, with a session of its own. */
  start(endpoint: string, ttlSeconds?: number): Promise<GoPeer>;
}

/** Builds test/interop/go with Debian's packages. Rejects with what the compiler says. */
export async function buildGo(): Promise<GoProgram> {
  const folder = await mkdtemp(path.join(tmpdir(), 'conclave-interop-'));
  const binary = path.join(folder, 'peer');
  const env = { ...process.env, GO111MODULE: 'off', GOFLAGS: '', GOPATH };
  await promisify(execFile)('go', ['build', '-o', binary, '.'], { cwd: SOURCES, env });
  return {
    [Symbol.asyncDispose]: () => rm(folder, { force: true, recursive: true }),
    start: (endpoint, ttlSeconds = 60) => GoPeer.start(binary, endpoint, ttlSeconds),
  };
}

/** One Go process with one session of etcd's `concurrency` package. */
export class GoPeer implements AsyncDisposable {
  /** Its lease in hex: the last part of its keys. */
  readonly lease: string;
  readonly #child: ChildProcess;
  readonly #waiting: Map<number, (answer: Answer) => void>;
  #lastId = 0;

  private constructor(child: ChildProcess, lease: string, waiting: Map<number, (answer: Answer) => void>) {
    this.#child = child;
    this.lease = lease;
    this.#waiting = waiting;
  }

  static async start(binary: string, endpoint: string, ttlSeconds: number): Promise<GoPeer> {
    const child = spawn(binary, ['-endpoint', endpoint, '-ttl', String(ttlSeconds)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const waiting = new Map<number, (answer: Answer) => void>();
    const lease = await new Promise<string>((resolve, reject) => {
      waiting.set(0, (answer) => resolve(answer.value ?? ''));
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the Go process ended with ${String(code)}`)));
      createInterface({ input: child.stdout }).on('line', (line) => {
        const answer = JSON.parse(line) as Answer;
        const heard = waiting.get(answer.id);
        if (answer.more !== true) waiting.delete(answer.id);
        heard?.(answer);
      });
    });
    return new GoPeer(child, lease, waiting);
  }

  /** Does one thing; resolves with its answer, rejects with Go's error. */
  async do(
    what: string,
    name: string,
    more: { readonly value?: string; readonly ms?: number } = {},
  ): Promise<Answer> {
    const answer = await new Promise<Answer>((resolve) => this.#send(what, name, more, resolve));
    if (answer.error !== undefined) throw new Error(`Go: ${answer.error}`);
    return answer;
  }

  /** Observes an election; every leader's value goes to `heard`. */
  observe(name: string, heard: (value: string) => void): void {
    this.#send('observe', name, {}, (answer) => heard(answer.value ?? ''));
  }

  /** Ends the process at once: its session is not closed. */
  async crash(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** Lets it close its session, and waits until it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await gone;
    assert.equal(this.#child.exitCode, 0);
  }

  #send(what: string, name: string, more: object, heard: (answer: Answer) => void): void {
    this.#lastId += 1;
    this.#waiting.set(this.#lastId, heard);
    this.#child.stdin?.write(`${JSON.stringify({ do: what, id: this.#lastId, name, ...more })}\n`);
  }
}
