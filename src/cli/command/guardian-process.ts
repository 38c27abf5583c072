/**
 * The guardian's own process: `guardian-process.js MARK DEADLINE [PID]`. It ends the command of this mark, and of this
 * process id once there is one, with all that it has started, when nobody else will. On stdin it hears `deadline MS`, until
 * when the command may run (by the machine's monotonic clock), and `command PID`.
 *
 *   watching   it hears. When the deadline passes: ending.
 *   orphaned   stdin has ended, so whoever wrote to it is dead: all is asked to end. At the last deadline: ending.
 *   ending     all is killed, and what could not be is told.
 */
import { createInterface } from 'node:readline';

import { systemClock, type Timer } from '../../util/clock.js';
import { CommandProcesses, killAll, survivorsText } from './command-processes.js';

/** Between two looks at what was asked to end: soon at first, seldom if it takes its time. */
const FIRST_LOOK_MS = 20;
const SELDOM_MS = 1000;

const [, , mark = '', firstDeadline = '0', leader] = process.argv;
const processes = new CommandProcesses(mark, leader === undefined ? undefined : Number(leader));
let state: 'watching' | 'orphaned' | 'ending' = 'watching';
let deadlineMs = Number(firstDeadline);
let timer: Timer | undefined;

function leftMs(): number {
  return deadlineMs - Number(process.hrtime.bigint() / 1_000_000n);
}

/** Ends it all once it is time, and looks again at that time, or after `lookMs`. */
function look(lookMs = Infinity): void {
  if (leftMs() <= 0) void end();
  else if (state === 'orphaned' && processes.look().length === 0) process.exit();
  else
    timer = systemClock.setTimer(Math.min(leftMs(), lookMs), () =>
      look(state === 'orphaned' ? Math.min(SELDOM_MS, lookMs * 1.2) : Infinity),
    );
}

async function end(): Promise<void> {
  state = 'ending';
  const survivors = await killAll(processes, systemClock);
  if (survivors.length > 0) {
    console.error(`conclave: the lock is over, and could not be stopped: ${survivorsText(survivors)}`);
  }
  process.exit();
}

function hear(line: string): void {
  const [word, value] = line.split(' ');
  if (word === 'command') processes.leader = Number(value);
  else deadlineMs = Number(value);
  if (state !== 'watching') return;
  timer?.cancel();
  look();
}

function orphaned(): void {
  if (state !== 'watching') return;
  state = 'orphaned';
  timer?.cancel();
  processes.ask();
  look(FIRST_LOOK_MS);
}

if (mark === '') process.exit(64);
// A signal that is sent to all (systemctl stop, killall) must not leave the command alone.
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const) {
  process.on(name, () => undefined);
}
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined); // Nobody is left to be told.
look();
createInterface({ input: process.stdin }).on('line', hear).on('close', orphaned);
process.stdout.write('ready\n');
