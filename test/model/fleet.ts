import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What a worker is asked to do. */
export interface Command {
  readonly id: number;
  readonly operation: string;
  readonly args: readonly unknown[];
}

/** What came of it: a value, or an error's code or text. */
export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** What a worker can do. */
export type Operations = Readonly<Record<string, (...args: never[]) => unknown>>;

/** A command failed in the worker: `message` is the error's code, or its text if it has none; `GONE` if it was killed. */
export class WorkerError extends Error {}

interface Call {
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

interface Worker {
  readonly process: ChildProcess;
  readonly waiting: Map<number, Call>;
}

/** Processes that carry out commands. */
export class Fleet {
  readonly #arguments: readonly string[];
  readonly #workers: Worker[] = [];
  #commands = 0;

  private constructor(endpoints: readonly string[], subject: URL) {
    this.#arguments = [subject.href, ...endpoints];
  }

  /** Starts `count` processes that offer the `operations` of the module `subject`. */
  static async start(endpoints: readonly string[], subject: URL, count: number): Promise<Fleet> {
    const fleet = new Fleet(endpoints, subject);
    for (let at = 0; at < count; at++) fleet.#workers.push(fleet.#spawn());
    await Promise.all(fleet.#workers.map(({ process }) => once(process, 'message')));
    return fleet;
  }

  /** How many processes there are. */
  get size(): number {
    return this.#workers.length;
  }

  /** Has process `at` carry out a command. Rejects with a WorkerError. */
  async call(at: number, operation: string, ...args: readonly unknown[]): Promise<unknown> {
    const worker = this.#workers[at];
    if (worker === undefined) throw new RangeError(`there is no process ${at}`);
    if (!worker.process.connected) throw new WorkerError('GONE');
    const id = ++this.#commands;
    return new Promise((resolve, reject) => {
      worker.waiting.set(id, { reject, resolve });
      worker.process.send({ args, id, operation } satisfies Command, (error) => {
        if (error !== null) reject(new WorkerError('GONE'));
      });
    });
  }

  /** Kills process `at` at once, as a crash does, and starts another in its place. */
  async replace(at: number): Promise<void> {
    await this.#kill(this.#workers[at]);
    const worker = this.#spawn();
    this.#workers[at] = worker;
    await once(worker.process, 'message');
  }

  /** Ends all processes. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => this.#kill(worker)));
  }

  async #kill(worker: Worker | undefined): Promise<void> {
    if (worker === undefined || worker.process.exitCode !== null || worker.process.signalCode !== null)
      return;
    const exit = once(worker.process, 'exit');
    worker.process.kill('SIGKILL');
    await exit;
  }

  #spawn(): Worker {
    const path = fileURLToPath(new URL('worker.js', import.meta.url));
    const process = fork(path, this.#arguments, {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const worker: Worker = { process, waiting: new Map() };
    process.on('message', ({ id, value, error }: Answer) => {
      const call = worker.waiting.get(id);
      worker.waiting.delete(id);
      if (error === undefined) call?.resolve(value);
      else call?.reject(new WorkerError(error));
    });
    process.on('exit', () => {
      for (const { reject } of worker.waiting.values()) reject(new WorkerError('GONE'));
      worker.waiting.clear();
    });
    return worker;
  }
}
