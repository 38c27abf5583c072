import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, rmSync } from 'node:fs';
import { type Socket } from 'node:net';

/**
 * Reads "add PID" and "drop PID" lines. When its input ends without a "done" (this process died, however it died), it
 * kills what was added and removes the folder.
 */
const WATCHDOG = `
trap '' INT TERM HUP
pids=
while read -r verb pid; do
  case $verb in
    add) pids="$pids $pid" ;;
    drop) rest=; for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done; pids=$rest ;;
    done) exit 0 ;;
  esac
done
[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
sleep 0.1
rm -rf -- "$1"
`;

const keepers = new Set<Keeper>();
let watchesExit = false;

/** Makes sure that no child process and no folder outlives this process, whether it exits, crashes or is killed. */
export class Keeper {
  readonly #folder: string;
  readonly #pids = new Set<number>();
  readonly #watchdog: ChildProcess;

  constructor(folder: string) {
    this.#folder = folder;
    this.#watchdog = spawn('/bin/sh', ['-c', WATCHDOG, 'conclave-etcd-watchdog', folder], {
      // Its own process group: a Ctrl-C in the terminal must not end the one who cleans up after it.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
    });
    this.#watchdog.on('error', () => undefined);
    this.#watchdog.stdin?.on('error', () => undefined);
    this.#watchdog.unref();
    (this.#watchdog.stdin as Socket | null)?.unref();
    keepers.add(this);
    if (!watchesExit) {
      watchesExit = true;
      process.on('exit', () => {
        for (const keeper of keepers) keeper.#endAll();
      });
    }
  }

  /** From now on this process dies with us. Its id is also noted in the file named by env CONCLAVE_ETCD_PIDS, if set. */
  add(pid: number): void {
    this.#pids.add(pid);
    this.#watchdog.stdin?.write(`add ${pid}\n`);
    const record = process.env['CONCLAVE_ETCD_PIDS'];
    if (record !== undefined && record !== '') appendFileSync(record, `${pid}\n`);
  }

  /** The process has ended: its id may soon be somebody else's. */
  drop(pid: number): void {
    if (this.#pids.delete(pid)) this.#watchdog.stdin?.write(`drop ${pid}\n`);
  }

  /** All processes have ended and the folder is removed: nothing is left to guard. */
  close(): void {
    keepers.delete(this);
    this.#watchdog.stdin?.end('done\n');
  }

  #endAll(): void {
    for (const pid of this.#pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
    try {
      rmSync(this.#folder, { recursive: true, force: true });
    } catch {
      // A process just killed may still write: the watchdog removes the rest.
    }
  }
}
