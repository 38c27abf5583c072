import { type ChildProcess, fork, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { sleep } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import type { Order, Report } from './protocol.js';

const ENTRY = fileURLToPath(new URL('./worker.js', import.meta.url));
/** How long workers get to end by themselves. */
const ORDERLY_MS = 5000;

/** What hears of a worker. */
export interface WorkerListener {
  reported(worker: Worker, report: Report): void;
  /** A line on its stderr. */
  complained(worker: Worker, line: string): void;
  /** It ended as nobody had wanted it to, or did not end when it was told to. */
  failed(worker: Worker, how: string): void;
}

/** One worker process. */
export class Worker {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #gone: Promise<void>;
  #thaw: (() => void) | undefined;
  /** Whether it was killed by us, as it must not mind. */
  #killed = false;

  constructor(name: string, listener: WorkerListener) {
    this.name = name;
    this.#process = fork(ENTRY, [], {
      // It warns once about servers with a known fault; five times would be a nuisance.
      execArgv: ['--disable-warning=CONCLAVE_ETCD_KEEPALIVE'],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#gone = new Promise((resolve) => {
      this.#process.once('exit', (code, signal) => {
        if (!this.#killed && code !== 0) listener.failed(this, `ended with ${String(signal ?? code)}`);
        resolve();
      });
      this.#process.once('error', (error) => {
        listener.failed(this, error.message);
        if (this.pid === undefined) resolve();
      });
    });
    this.#process.on('message', (report: Report) => listener.reported(this, report));
    const { stderr } = this.#process;
    if (stderr !== null)
      createInterface({ input: stderr }).on('line', (line) => listener.complained(this, line));
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Whether the process runs (or is stopped). */
  get alive(): boolean {
    return this.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Resolves when the process is gone. */
  get gone(): Promise<void> {
    return this.#gone;
  }

  tell(order: Order): void {
    if (this.#process.connected) this.#process.send(order);
  }

  /** SIGKILL: it has no time to give anything back. */
  kill(): void {
    this.#killed = true;
    this.#process.kill('SIGKILL');
  }

  /** SIGSTOP, until `thaw`; or until this process dies, so that no stopped process is left behind. */
  freeze(): void {
    const { pid } = this;
    if (pid === undefined || this.#thaw !== undefined) return;
    const script = 'read -r _; kill -CONT "$1" 2>/dev/null';
    const waker = spawn('/bin/sh', ['-c', script, 'conclave-waker', String(pid)], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    waker.on('error', () => undefined);
    waker.stdin.on('error', () => undefined);
    this.#thaw = () => {
      this.#process.kill('SIGCONT');
      waker.stdin.end();
    };
    this.#process.kill('SIGSTOP');
  }

  /** SIGCONT. */
  thaw(): void {
    this.#thaw?.();
    this.#thaw = undefined;
  }
}

/** The worker processes of one run. They are ended with this process, however it exits. */
export class Fleet {
  readonly workers: readonly Worker[];
  readonly #clock: Clock;
  readonly #listener: WorkerListener;
  readonly #onExit = (): void => this.#killAll();

  constructor(count: number, clock: Clock, listener: WorkerListener) {
    this.#clock = clock;
    this.#listener = listener;
    process.once('exit', this.#onExit);
    this.workers = Array.from({ length: count }, (_, at) => new Worker(`worker-${at + 1}`, listener));
  }

  /** The worker of this name. */
  named(name: string | undefined): Worker | undefined {
    return this.workers.find((worker) => worker.name === name);
  }

  /** Tells all workers to stop, kills those that do not, and resolves when every process is gone. */
  async stop(orderlyMs = ORDERLY_MS): Promise<void> {
    for (const worker of this.workers) {
      worker.thaw();
      worker.tell({ type: 'stop' });
    }
    const allGone = Promise.all(this.workers.map((worker) => worker.gone));
    const enough = new AbortController();
    await Promise.race([allGone, sleep(this.#clock, orderlyMs, enough.signal).catch(() => undefined)]);
    enough.abort();
    for (const worker of this.workers) {
      if (worker.alive) this.#listener.failed(worker, `did not stop within ${orderlyMs} ms, and was killed`);
    }
    this.#killAll();
    await allGone;
    process.off('exit', this.#onExit);
  }

  #killAll(): void {
    for (const worker of this.workers) {
      worker.thaw();
      if (worker.alive) worker.kill();
    }
  }
}
