import { hostname } from 'node:os';

import { hasCode } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { Election } from '../election/election.js';
import { observeLine } from '../election/observe.js';
import { explain } from './connect.js';
import { EXIT, EXIT_CODES } from './exit-codes.js';
import { guard } from './guard.js';
import { GUARD_FLAGS, GUARD_NOTES, type GuardRequest, readGuardRequest } from './guard-request.js';
import { assertReachable } from './reach.js';
import { Interrupted, Interruption } from './signals.js';
import { type Flag, type Page, readArgs, UsageError } from './usage.js';

const FLAGS = {
  value: { value: 'TEXT', help: 'what observers see while we lead (default HOST:PID)' },
  listen: { short: 'l', help: 'do not stand: print each leader as it changes, until interrupted' },
  ...GUARD_FLAGS,
} as const satisfies Record<string, Flag>;

export const ELECT_PAGE: Page<keyof typeof FLAGS> = {
  name: 'elect',
  usage: [
    'elect [OPTION …] NAME -- COMMAND [ARGUMENT …]',
    'elect [OPTION …] NAME',
    'elect --listen [--json] NAME',
  ],
  about: `Runs the command while leading the election NAME, and exits as it does. Without a command: prints our key and
leads until interrupted. Compatible with "etcdctl elect NAME" and Go's concurrency.Election of the same name.`,
  flags: FLAGS,
  notes: `${GUARD_NOTES}\n\n${EXIT_CODES}`,
};

/** What means nothing to one who only listens. */
const STANDING = ['value', 'nonblock', 'wait', 'conflict-exit-code', 'ttl'] as const;

/** `conclave elect`. Resolves with the exit code. */
export async function elect(argv: readonly string[]): Promise<number> {
  const typed = readArgs(ELECT_PAGE, argv);
  if (typed.has('listen')) {
    if (typed.command !== undefined) throw new UsageError('--listen goes without a command');
    for (const name of STANDING) {
      if (typed.has(name) || typed.text(name) !== undefined)
        throw new UsageError(`--listen goes without --${name}: it does not stand`);
    }
    // As JSON, too, since each leader is printed as one line.
    return listen(readGuardRequest('elect', typed));
  }
  const request = readGuardRequest('elect', typed);
  const value = typed.text('value') ?? `${hostname()}:${process.pid}`;
  return guard(request, async (session, limits) => {
    const election = new Election(session, request.name);
    return limits.timeoutMs === 0
      ? election.tryCampaign(value, { signal: limits.signal })
      : election.campaign(value, limits);
  });
}

/** Prints each leader: its value (an empty line when nobody leads), or the key and value as JSON. */
async function listen(request: GuardRequest): Promise<number> {
  using interrupt = new Interruption();
  const client = new Client(request.target);
  try {
    await assertReachable(request.target);
    // What cannot be reached or refuses us is to be heard of now, not to be waited for.
    await client.kv.range(
      { prefix: `${request.name}/` },
      { limit: 1, keysOnly: true, signal: interrupt.signal },
    );
    for await (const leader of observeLine(client, request.name, interrupt.signal)) {
      if (!request.json) console.log(leader?.string() ?? '');
      else
        console.log(
          JSON.stringify(leader === undefined ? null : { key: leader.key, value: leader.string() }),
        );
    }
    return EXIT.ok;
  } catch (error) {
    if (error instanceof Interrupted) return error.signal === 'SIGPIPE' ? error.exitCode : EXIT.ok;
    if (!hasCode(error)) throw error;
    console.error(`conclave elect: ${explain(error, request.target)}`);
    return EXIT.server;
  } finally {
    await client.close();
  }
}
