/** The processes of this machine, as the system shows them: from /proc where there is one, else as `ps` prints them. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** A process that runs or is stopped. */
export interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  /** 0 where the system does not tell. */
  readonly session: number;
  /** The foreground group of its terminal; -1 without one or where it is not told. */
  readonly foreground: number;
  /** When it started, in the system's own words: with the pid, what tells it from a later process of the same number. */
  readonly started: string;
}

const HAS_PROC = existsSync('/proc/self/stat');

/** All processes, without those that have ended and only wait for their parent to take note. Throws where there are neither /proc nor ps. */
export function readProcesses(): ProcessEntry[] {
  if (!HAS_PROC) return askPs();
  const numbers = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return numbers.map((pid) => readProcess(Number(pid))).filter((entry) => entry !== undefined);
}

/** One process; undefined when it has ended, and where there is no /proc. */
export function readProcess(pid: number): ProcessEntry | undefined {
  const stat = readProc(pid, 'stat');
  // "pid (name) state parent group session terminal foreground …": the name may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent, group, session, , foreground] = fields;
  // The first thread may have ended before the others.
  if ('ZX'.includes(state) && !(Number(fields[17]) > 1)) return undefined;
  return {
    foreground: Number(foreground),
    group: Number(group),
    parent: Number(parent),
    pid,
    session: Number(session),
    started: fields[19] ?? '',
  };
}

/** The environment a process was started with; empty when it has ended, is another user's, or is not shown here at all. */
export function readEnvironment(pid: number): string {
  return HAS_PROC ? readProc(pid, 'environ') : '';
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}

function askPs(): ProcessEntry[] {
  const columns = 'pid=,ppid=,pgid=,sess=,tpgid=,stat=,lstart=';
  const { error, stdout, status } = spawnSync('ps', ['-A', '-o', columns], { encoding: 'utf8' });
  if (error !== undefined || status !== 0)
    throw new Error('ps does not list the processes', { cause: error });
  return stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 6 && !/^[ZX]/.test(fields[5] ?? ''))
    .map(([pid, parent, group, session, foreground, , ...started]) => ({
      foreground: Number(foreground),
      group: Number(group),
      parent: Number(parent),
      pid: Number(pid),
      session: Number(session) || 0,
      started: started.join(' '),
    }));
}
