// A party of a double barrier in a process of its own, which may kill itself at any step.
import { Client, DoubleBarrier, hasCode, Session } from 'conclave';

import { randomFrom } from '../support/children.js';

/** What the parent says. */
export interface PartyInput {
  readonly endpoints: readonly string[];
  readonly name: string;
  readonly count: number;
  readonly seed: number;
  /** How likely it is to die at each step. */
  readonly deadliness: number;
}

/** What a party did, and when, by the machine's monotonic clock. */
export interface PartyReport {
  readonly party: number;
  readonly step: 'entering' | 'inside' | 'leaving' | 'left' | 'gave up';
  readonly round: string;
  readonly at: string;
}

const input = JSON.parse(process.argv[2] ?? '{}') as PartyInput;
const random = randomFrom(input.seed);

function report(step: PartyReport['step'], round = 0n): void {
  const line: PartyReport = {
    at: String(process.hrtime.bigint()),
    party: input.seed,
    round: String(round),
    step,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Dies now, or while what comes next is under way. */
function maybeDie(): void {
  if (random() >= input.deadliness) return;
  const inMs = random() * 12;
  if (inMs < 3) process.kill(process.pid, 'SIGKILL');
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), inMs);
}

process.stdin.resume();

const client = new Client({ endpoints: input.endpoints });
const session = await Session.open(client, { ttlSeconds: 2 });
const barrier = new DoubleBarrier(session, input.name, { count: input.count });
while (!process.stdin.readableEnded) {
  maybeDie();
  report('entering');
  try {
    // Now and then somebody loses patience; at the end everybody does.
    const round = await barrier.enter({ timeoutMs: random() < 0.1 ? random() * 50 : 1500 });
    report('inside', round);
    maybeDie();
    report('leaving', round);
    const leaving = barrier.leave({ timeoutMs: 10_000 });
    maybeDie();
    await leaving;
    report('left', round);
  } catch (error) {
    // On a machine that is too busy to renew a lease of 2 s, a party dies of that.
    if (hasCode(error, 'SESSION_LOST')) process.kill(process.pid, 'SIGKILL');
    if (!hasCode(error, 'TIMEOUT')) throw error;
    report('gave up');
  }
}
await session.close();
await client.close();
