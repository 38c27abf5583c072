/**
 * What the command gets of our open files. 0 to 2 are ours, whatever they are; of the others those that our caller opened:
 * make's jobserver, a log at 3. Node closes them in what it starts unless each is named, and has files of its own.
 */
import { fstatSync, readdirSync, readlinkSync } from 'node:fs';
import { isatty } from 'node:tty';

import { readProcess } from './process-table.js';

const OURS = '/proc/self/fd';

interface Open {
  readonly fd: number;
  /** As in `/tmp/log`, `pipe:[1234]`, `anon_inode:[eventpoll]`. */
  readonly what: string;
}

/** Taken when this module is loaded, before we have opened anything ourselves. */
const CALLERS = callersFiles(openFiles());

/** What to start a command with, for `spawn`'s option `stdio`. */
export function commandStdio(): ('inherit' | 'ignore')[] {
  const last = Math.max(2, ...CALLERS);
  return Array.from({ length: last + 1 }, (_, fd) => {
    if (fd === 0) return isBackgroundTerminal() ? 'ignore' : 'inherit';
    return fd <= 2 || CALLERS.has(fd) ? 'inherit' : 'ignore';
  });
}

/**
 * Whether our input is a terminal whose foreground is somebody else, as after `conclave lock … &`. A command of its own
 * session is not stopped when it reads then: it would take what is typed at the shell.
 */
function isBackgroundTerminal(): boolean {
  const us = readProcess(process.pid);
  return us !== undefined && isatty(0) && us.foreground > 0 && us.foreground !== us.group;
}

function openFiles(): Open[] {
  try {
    return readdirSync(OURS).flatMap((name) => {
      const what = readLink(`${OURS}/${name}`);
      return what === undefined ? [] : [{ fd: Number(name), what }];
    });
  } catch {
    return []; // No Linux: 0 to 2 only.
  }
}

function readLink(name: string): string | undefined {
  try {
    return readlinkSync(name);
  } catch {
    return undefined; // That of the listing itself.
  }
}

/**
 * Node's own files are epolls, events, both ends of pipes, and /dev/null, and took the lowest free numbers: what lies
 * below the first of them was there before. Above it, what could be Node's is taken for Node's.
 */
function callersFiles(open: readonly Open[]): ReadonlySet<number> {
  const first = Math.min(...open.filter(({ what }) => what.startsWith('anon_inode:')).map(({ fd }) => fd));
  const couldBeNodes = ({ what }: Open): boolean =>
    what.startsWith('anon_inode:') ||
    what === '/dev/null' ||
    (what.startsWith('pipe:') && open.filter((other) => other.what === what).length > 1);
  return new Set(
    open
      .filter((file) => file.fd > 2 && (file.fd < first || !couldBeNodes(file)) && isOpen(file.fd))
      .map(({ fd }) => fd),
  );
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}
