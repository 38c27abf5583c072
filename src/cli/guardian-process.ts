/**
 * The guardian's own process: `guardian-process.js GROUP DEADLINE`. The deadline is the time, by the machine's monotonic
 * clock in ms, until which process group GROUP may run; each line on stdin replaces it. When it passes, the group is killed. When stdin ends, whoever wrote
 * to it is dead: the group is asked to end, and killed at that time.
 */
import { createInterface } from 'node:readline';

const LOOK_EVERY_MS = 20;

const group = Number(process.argv[2]);
let deadline = BigInt(process.argv[3] ?? '0');
let orphaned = false;

function now(): bigint {
  return process.hrtime.bigint() / 1_000_000n;
}

/** Signals the group; says whether a process is left in it. */
function signal(name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, name);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function look(): void {
  if (now() >= deadline) {
    signal('SIGKILL');
    process.exit();
  }
  if (orphaned && !signal(0)) process.exit();
}

if (!Number.isSafeInteger(group) || group <= 1) process.exit(64);
setInterval(look, LOOK_EVERY_MS);
createInterface({ input: process.stdin })
  .on('line', (line) => {
    deadline = BigInt(line);
  })
  .on('close', () => {
    orphaned = true;
    signal('SIGTERM');
    signal('SIGCONT');
  });
process.stdout.on('error', () => undefined); // Nobody is left to be told.
process.stdout.write('ready\n');
