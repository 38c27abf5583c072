import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A process of a test's own, which reports in lines of JSON on its standard output. */
export class Child<Report> {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  /** Runs `script`, a module beside the test whose URL is `beside`, with one argument of JSON. */
  constructor(beside: string, script: string, input: unknown, onReport: (report: Report) => void) {
    const file = fileURLToPath(new URL(script, beside));
    this.#child = spawn(process.execPath, [file, JSON.stringify(input)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error('a child without standard output');
    const lines = createInterface({ input: stdout });
    lines.on('line', (line) => onReport(JSON.parse(line) as Report));
    this.#ended = Promise.all([once(this.#child, 'exit'), once(lines, 'close')]);
  }

  /** Resolves with the exit code, or null if a signal ended it, once all its reports are in. */
  async ended(): Promise<number | null> {
    await this.#ended;
    return this.#child.exitCode;
  }

  /** Closes its standard input: what it takes as the word to finish. */
  finish(): void {
    this.#child.stdin?.end();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Random numbers that a seed repeats (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The seed of a random test: from the environment variable `name`, else a new one. */
export function seedFrom(name: string): number {
  return Number(process.env[name] ?? Math.floor(Math.random() * 1_000_000));
}
