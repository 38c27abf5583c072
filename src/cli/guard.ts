/**
 * Runs a command while something is held: what `conclave lock` and `conclave elect` share.
 *
 * Invariant: no process of the command runs once etcd could give the hold to somebody else because our lease ran out:
 * the session ends early by `marginMs`, SIGTERM follows at once and SIGKILL in the middle of the margin. When we are
 * frozen or killed ourselves, the guardian process does it.
 *
 * Not guaranteed: when somebody revokes the lease or deletes the key, the next holder may have it before we hear of it.
 * The command's own writes are then safe only if they compare CONCLAVE_KEY's create revision with CONCLAVE_REVISION, or
 * carry the fencing token.
 */
import { hasCode } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { leaseHex } from '../etcd/lease.js';
import { Session } from '../session/session.js';
import type { Hold } from '../ticket/hold.js';
import { onAbort, orAborted } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { CommandGroup } from './command-group.js';
import { explain } from './connect.js';
import { EXIT } from './exit-codes.js';
import type { GuardRequest } from './guard-request.js';
import { Guardian } from './guardian.js';
import { assertReachable } from './reach.js';
import { ENDING, Interrupted, interruption, onSignals } from './signals.js';

/** Passed on to the command as they come. */
const PASSED_ON = [...ENDING, 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;

/** Takes the hold; undefined when somebody else has it and it is not to be waited for. */
export type Acquire = (
  session: Session,
  limits: { signal: AbortSignal; timeoutMs?: number },
) => Promise<Hold | undefined>;

/** How long before its lease can end a hold is given up: time to stop the command, a third of the TTL but at most 5 s. */
export function marginMs(ttlSeconds: number): number {
  return Math.min(5000, Math.round((ttlSeconds * 1000) / 3));
}

/** Takes the hold, runs the command (or waits for a signal), gives the hold back. Resolves with the exit code. */
export async function guard(request: GuardRequest, acquire: Acquire): Promise<number> {
  using interrupt = interruption();
  const client = new Client(request.target);
  try {
    await assertReachable(request.target);
    return await withSession(client, request, interrupt.signal, (session) =>
      run(session, request, acquire, interrupt.signal),
    );
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode;
    if (!hasCode(error)) throw error;
    if (hasCode(error, 'TIMEOUT'))
      return conflict(request, `still not free after ${String(request.waitSeconds)} s`);
    console.error(`conclave ${request.verb}: ${explain(error, request.target)}`);
    return hasCode(error, 'SESSION_LOST', 'TICKET_LOST', 'NOT_HELD') ? EXIT.lost : EXIT.server;
  } finally {
    await client.close();
  }
}

/** Opens a session, and revokes its lease on every path: that gives back whatever was taken on it. */
async function withSession(
  client: Client,
  request: GuardRequest,
  signal: AbortSignal,
  use: (session: Session) => Promise<number>,
): Promise<number> {
  const { ttlSeconds } = request;
  const session = await Session.open(client, { marginMs: marginMs(ttlSeconds), signal, ttlSeconds });
  try {
    return await use(session);
  } finally {
    await session.close().catch((error: unknown) => {
      const why = hasCode(error) ? explain(error, request.target) : String(error);
      console.error(
        `conclave ${request.verb}: could not confirm the release (it ends within ${ttlSeconds} s): ${why}`,
      );
    });
  }
}

async function run(
  session: Session,
  request: GuardRequest,
  acquire: Acquire,
  signal: AbortSignal,
): Promise<number> {
  const timeoutMs = request.waitSeconds === undefined ? undefined : request.waitSeconds * 1000;
  const hold = await acquire(session, timeoutMs === undefined ? { signal } : { signal, timeoutMs });
  if (hold === undefined) return conflict(request, 'held by somebody else');
  signal.throwIfAborted();
  if (request.command === undefined) return keep(hold, request, signal);
  return runCommand(hold, session, request, request.command);
}

function conflict(request: GuardRequest, why: string): number {
  console.error(`conclave ${request.verb}: ${JSON.stringify(request.name)} is ${why}`);
  return request.conflictExitCode;
}

/** Prints the key and holds until a signal asks to end (exit code 0), the key cannot be printed, or the hold is lost. */
async function keep(hold: Hold, request: GuardRequest, signal: AbortSignal): Promise<number> {
  const { createRevision, fencingToken, key } = hold;
  const facts = {
    name: request.name,
    key,
    revision: String(createRevision),
    fencingToken: String(fencingToken),
  };
  console.log(request.json ? JSON.stringify(facts) : key);
  const interrupted = new Deferred<Interrupted>();
  const stop = onAbort(signal, (reason) => interrupted.resolve(reason as Interrupted));
  try {
    const by = await orAborted(interrupted.promise, hold.signal);
    return by.signal === 'SIGPIPE' ? by.exitCode : EXIT.ok;
  } catch (error) {
    return lost(request, error);
  } finally {
    stop();
  }
}

async function runCommand(
  hold: Hold,
  session: Session,
  request: GuardRequest,
  command: readonly string[],
): Promise<number> {
  const { clock } = session.client;
  const margin = marginMs(request.ttlSeconds);
  const leaseEndsInMs = (): number => session.remainingMs + margin;
  const group = new CommandGroup(command, childEnv(hold, session, request), clock);
  const guardian =
    group.id === undefined ? undefined : new Guardian(group.id, clock, () => leaseEndsInMs() - margin / 4);
  const passing = [
    onSignals(PASSED_ON, (name) => group.signal(name)),
    onSignals(['SIGTSTP'], () => pause(group)),
    onSignals(['SIGCONT'], () => hold.held && group.signal('SIGCONT')),
  ];
  let stopping: Promise<void> | undefined;
  const stopListening = onAbort(hold.signal, () => {
    stopping = group.stop(Math.min(margin / 2, leaseEndsInMs() - margin / 2));
  });
  try {
    // The command runs only once somebody watches over it.
    await guardian?.ready.catch(async (error: unknown) => {
      await group.stop(0);
      throw error;
    });
    if (hold.held) group.go();
    const code = await group.ended;
    // A command that ended although its hold was gone already has not run under it.
    if (hold.held) return code;
    await stopping;
    return lost(request, hold.signal.reason);
  } finally {
    stopListening();
    for (const each of passing) each[Symbol.dispose]();
    await guardian?.dismiss();
  }
}

/** Ctrl-Z stops the command before us. When we go on, it goes on only if the hold has lasted meanwhile. */
function pause(group: CommandGroup): void {
  group.signal('SIGSTOP');
  process.kill(process.pid, 'SIGSTOP');
}

function lost(request: GuardRequest, reason: unknown): number {
  const why = hasCode(reason) ? reason.message : String(reason);
  console.error(
    `conclave ${request.verb}: ${JSON.stringify(request.name)} was lost${request.command === undefined ? '' : ', the command was stopped'}: ${why}`,
  );
  return EXIT.lost;
}

/** What the command finds in its environment. */
function childEnv(hold: Hold, session: Session, request: GuardRequest): NodeJS.ProcessEnv {
  return {
    ...process.env,
    CONCLAVE_ENDPOINTS: request.target.endpoints.join(','),
    CONCLAVE_FENCING_TOKEN: String(hold.fencingToken),
    CONCLAVE_KEY: hold.key,
    CONCLAVE_LEASE: leaseHex(session.leaseId),
    CONCLAVE_NAME: request.name,
    CONCLAVE_REVISION: String(hold.createRevision),
  };
}
