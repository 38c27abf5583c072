import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { sleep } from '../util/abort.js';
import { systemClock } from '../util/clock.js';
import { type TlsMaterial } from './certificates.js';
import { httpCall } from './http.js';
import { type Keeper } from './keeper.js';

const POLL_MS = 15;
const TERM_PATIENCE_MS = 10_000;
const LOG_TAIL_LINES = 15;

/** What one member is started with. */
export interface MemberSetup {
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  /** What it runs in. */
  readonly folder: string;
  readonly logFile: string;
  readonly dataDir: string;
  readonly endpoint: string;
  readonly peerUrl: string;
  readonly tls: TlsMaterial | undefined;
  readonly startTimeoutMs: number;
  readonly keeper: Keeper;
}

/** How a member is started again. */
export interface RestartOptions {
  /**
   * Wait until it is healthy, which takes a majority of the members. With `false`, only until its process runs.
   * @default true
   */
  readonly waitHealthy?: boolean | undefined;
}

/** One etcd process, which can be stopped, killed, frozen and started again on the same data and port. */
export class EtcdMember {
  /** Where clients connect, as in `http://127.0.0.1:2379`. */
  readonly endpoint: string;
  /** Its name in the cluster. */
  readonly name: string;
  /** The folder of its data. While it does not run it may be removed, or replaced by a copy: it comes back without, or with that. */
  readonly dataDir: string;
  readonly #setup: MemberSetup;
  readonly #logFile: string;
  #child: ChildProcess | undefined;

  constructor(setup: MemberSetup) {
    this.#setup = setup;
    this.endpoint = setup.endpoint;
    this.name = setup.name;
    this.dataDir = setup.dataDir;
    this.#logFile = setup.logFile;
  }

  /** The process id; `undefined` while it does not run. */
  get pid(): number | undefined {
    return this.running ? this.#child?.pid : undefined;
  }

  /** Whether its process exists, frozen or not. */
  get running(): boolean {
    const child = this.#child;
    return child?.pid !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** The last lines etcd has logged; of a refusal of its own arguments, the line that says so. */
  get logTail(): string {
    try {
      const log = readFileSync(this.#logFile, 'utf8').trimEnd();
      // It is followed by pages of usage.
      const badFlag = /^(flag provided but not defined|invalid value ).*$/m.exec(log)?.[0];
      return badFlag ?? log.split('\n').slice(-LOG_TAIL_LINES).join('\n');
    } catch {
      return '';
    }
  }

  /** Whether the log says that somebody else has the port. */
  get portWasTaken(): boolean {
    return /address already in use/.test(this.logTail);
  }

  /** Resolves when its process has ended, in whatever way; at once when none runs. */
  async ended(): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    // Who waits for it wants to see it.
    child.ref();
    await once(child, 'exit');
  }

  /** Starts the process, without waiting for more. Does nothing while it runs. */
  launch(): void {
    if (this.running) return;
    const { file, args, folder, keeper } = this.#setup;
    const log = openSync(this.#logFile, 'a');
    // etcd takes any flag from ETCD_* too: ours alone count.
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('ETCD_')));
    const child = spawn(file, args, { cwd: folder, env, detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    this.#child = child;
    child.on('error', () => undefined);
    child.unref();
    const { pid } = child;
    if (pid === undefined) return;
    keeper.add(pid);
    child.once('exit', () => keeper.drop(pid));
  }

  /** Resolves when this very process answers as healthy. Rejects, with the tail of its log, when it ends or takes too long. */
  async ready(): Promise<void> {
    const { endpoint, peerUrl, tls, name, startTimeoutMs } = this.#setup;
    const deadline = systemClock.now() + startTimeoutMs;
    // A stranger's etcd on the port would be healthy too: the peer side says who answers.
    const ours = (text: string): boolean => text.includes(`"name":${JSON.stringify(name)}`);
    await this.#poll(deadline, async () => ours((await httpCall({ url: `${peerUrl}/members` })).text));
    await this.#poll(deadline, async () => {
      const { status, text } = await httpCall({ url: `${endpoint}/health`, tls });
      return status === 200 && /"health" *: *"?true/.test(text);
    });
  }

  /** Ends it at once, as a crash does (SIGKILL). Resolves when the process is gone. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Asks it to end (SIGTERM). Resolves when the process is gone; one that does not obey in 10 s is killed. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Freezes it (SIGSTOP): it keeps its connections and answers nothing. Resolves when it is frozen. */
  async pause(): Promise<void> {
    const { pid } = this;
    if (pid === undefined) throw new Error(`etcd member ${this.name} is not running`);
    process.kill(pid, 'SIGSTOP');
    while (this.running && !isStopped(pid)) await sleep(systemClock, 1);
  }

  /** Lets it go on after `pause` (SIGCONT). */
  async resume(): Promise<void> {
    const { pid } = this;
    if (pid !== undefined) process.kill(pid, 'SIGCONT');
  }

  /** Starts it again on its data and its port, stopping it first if it runs. */
  async restart(options: RestartOptions = {}): Promise<void> {
    await this.stop();
    this.launch();
    if (options.waitHealthy ?? true) await this.ready();
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const exited = once(child, 'exit');
    child.ref();
    child.kill(signal);
    // A frozen process gets no signal but SIGKILL.
    child.kill('SIGCONT');
    const timer = systemClock.setTimer(TERM_PATIENCE_MS, () => child.kill('SIGKILL'));
    try {
      await exited;
    } finally {
      timer.cancel();
    }
  }

  async #poll(deadline: number, fact: () => Promise<boolean>): Promise<void> {
    while (!(await fact().catch(() => false))) {
      if (!this.running) throw new Error(`etcd ended while starting; its log ends with:\n${this.logTail}`);
      if (systemClock.now() > deadline) {
        throw new Error(
          `etcd was not ready after ${this.#setup.startTimeoutMs} ms; its log ends with:\n${this.logTail}`,
        );
      }
      await sleep(systemClock, POLL_MS);
    }
  }
}

/** Whether the process is frozen. Where there is no /proc, the signal is taken as done. */
function isStopped(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  } catch {
    return true;
  }
}
