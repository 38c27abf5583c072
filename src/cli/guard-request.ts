import { CONNECT_FLAGS, readTarget, type Target } from './connect.js';
import { EXIT } from './exit-codes.js';
import { COMMON_FLAGS, type Flag, type Typed, UsageError } from './usage.js';
import { checkPlainName } from '../util/key-space.js';

/** The options `lock` and `elect` share; the first letters are flock's. */
export const GUARD_FLAGS = {
  nonblock: { short: 'n', help: 'fail at once when somebody else holds it' },
  wait: { short: 'w', value: 'SECONDS', help: 'fail when it is still held by somebody else after so long' },
  'conflict-exit-code': {
    short: 'E',
    value: 'CODE',
    help: `what to exit with then, 0 to 255 (default ${EXIT.conflict})`,
  },
  ttl: {
    value: 'SECONDS',
    help: 'how long the hold outlives this process if that dies, whole seconds (default 10)',
  },
  json: { help: 'without a command: print the key and its fencing token as one line of JSON' },
  ...CONNECT_FLAGS,
  ...COMMON_FLAGS,
} as const satisfies Record<string, Flag>;

export type GuardFlag = keyof typeof GUARD_FLAGS;

/** What `lock` and `elect` tell the command. */
export const GUARD_NOTES = `The command finds CONCLAVE_FENCING_TOKEN (greater for each later holder of the name), CONCLAVE_KEY (our key in
etcd), CONCLAVE_REVISION (its create revision: a transaction that compares it commits only while we hold),
CONCLAVE_LEASE, CONCLAVE_NAME and CONCLAVE_ENDPOINTS in its environment. It runs in a process group of its own.
SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to it. When the hold is lost, or we die, it gets SIGTERM and then
SIGKILL before the lease can end, with all that it has started. Not reached: what others start for it (docker,
systemd-run, ssh), and another user's processes (sudo), which are named. What it leaves running in the background when
it ends is not waited for.`;

/** What was asked for. */
export interface GuardRequest {
  readonly verb: 'lock' | 'elect';
  readonly name: string;
  /** Undefined: hold until interrupted. */
  readonly command: readonly string[] | undefined;
  readonly nonblock: boolean;
  readonly waitSeconds: number | undefined;
  readonly conflictExitCode: number;
  readonly ttlSeconds: number;
  readonly json: boolean;
  readonly target: Target;
}

/** Reads what was typed after `lock` or `elect`. Throws UsageError. */
export function readGuardRequest(verb: GuardRequest['verb'], typed: Typed<GuardFlag>): GuardRequest {
  const [name, surplus] = typed.positionals;
  if (name === undefined) throw new UsageError(`a name is missing: conclave ${verb} NAME -- command`);
  if (surplus !== undefined) {
    const example = `conclave ${verb} ${name} -- ${typed.positionals.slice(1).join(' ')}`;
    throw new UsageError(`put "--" before the command: ${example}`);
  }
  const { command } = typed;
  if (command?.length === 0) {
    throw new UsageError(`a command is missing after "--"; leave "--" out to hold until interrupted`);
  }
  const json = typed.has('json');
  if (json && command !== undefined) {
    throw new UsageError('--json goes without a command: what the command prints is its own');
  }
  const waitSeconds = typed.seconds('wait', 0);
  if (typed.has('nonblock') && waitSeconds !== undefined)
    throw new UsageError('give --nonblock or --wait, not both');
  return {
    command,
    conflictExitCode: typed.whole('conflict-exit-code', 0, 255) ?? EXIT.conflict,
    json,
    name: checkedName(name, verb),
    // A lock that is free is had with -w 0, too.
    nonblock: typed.has('nonblock') || waitSeconds === 0,
    target: readTarget(typed),
    ttlSeconds: typed.whole('ttl', 1, 9_000_000_000) ?? 10,
    verb,
    waitSeconds: waitSeconds === 0 ? undefined : waitSeconds,
  };
}

/** What the library would refuse is a usage error here. */
function checkedName(name: string, verb: GuardRequest['verb']): string {
  try {
    return checkPlainName(name, `the name of the ${verb === 'lock' ? 'lock' : 'election'}`);
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(error.message) : error;
  }
}
