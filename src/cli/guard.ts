/**
 * Runs a command while something is held: what `conclave lock` and `conclave elect` share.
 *
 * Invariant: nothing that the command has started runs once etcd could give the hold to somebody else because our lease
 * ran out: the session ends early by `marginMs`, SIGTERM follows at once and SIGKILL in the middle of the margin. When we
 * are frozen or killed ourselves, the guardian process does it. What could not be stopped is named, with exit code 80.
 *
 * Not guaranteed: what command/command-processes.ts says it does not find. When somebody revokes the lease or deletes the key, the next holder may have it before we hear of it.
 * The command's own writes are then safe only if they compare CONCLAVE_KEY's create revision with CONCLAVE_REVISION, or
 * carry the fencing token.
 */
import { hasCode } from '../errors/conclave-error.js';
import { Client } from '../etcd/client.js';
import { Session } from '../session/session.js';
import type { Hold } from '../ticket/hold.js';
import { onAbort, orAborted } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { type Survivor, survivorsText } from './command/command-processes.js';
import { type Outcome, runCommand } from './command/run-command.js';
import { explain } from './connect.js';
import { EXIT } from './exit-codes.js';
import type { GuardRequest } from './guard-request.js';
import { assertReachable } from './reach.js';
import { Interrupted, Interruption } from './signals.js';
import { type HoldLimits, tidily, Wait } from './wait.js';

/** Takes the hold; undefined when somebody else has it and it is not to be waited for any more (`timeoutMs` 0). */
export type Acquire = (session: Session, limits: HoldLimits) => Promise<Hold | undefined>;

/** How long before its lease can end a hold is given up: time to stop the command, a third of the TTL but at most 5 s. */
export function marginMs(ttlSeconds: number): number {
  return Math.min(5000, Math.round((ttlSeconds * 1000) / 3));
}

/** Takes the hold, runs the command (or waits for a signal), gives the hold back. Resolves with the exit code. */
export async function guard(request: GuardRequest, acquire: Acquire): Promise<number> {
  using interrupt = new Interruption();
  using wait = new Wait(request.nonblock ? 0 : request.waitSeconds, interrupt.signal);
  const client = new Client(request.target);
  try {
    await wait.forAnswer(() => assertReachable(request.target));
    return await withSession(client, request, wait, (session) =>
      run(session, request, { acquire, wait, interrupt }),
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
  wait: Wait,
  use: (session: Session) => Promise<number>,
): Promise<number> {
  const { ttlSeconds } = request;
  const session = await wait.forAnswer((signal) =>
    Session.open(client, { marginMs: marginMs(ttlSeconds), signal, ttlSeconds }),
  );
  try {
    return await use(session);
  } finally {
    await tidily(wait.signal, session.close()).catch((error: unknown) => {
      const why =
        hasCode(error) && !hasCode(error, 'TIMEOUT') ? explain(error, request.target) : 'no answer in time';
      console.error(
        `conclave ${request.verb}: could not confirm the release (it ends within ${ttlSeconds} s): ${why}`,
      );
    });
  }
}

/** What a run waits for, and what may end it. */
interface Run {
  readonly acquire: Acquire;
  readonly wait: Wait;
  readonly interrupt: Interruption;
}

async function run(
  session: Session,
  request: GuardRequest,
  { acquire, wait, interrupt }: Run,
): Promise<number> {
  const hold = await wait.forHold((limits) => acquire(session, limits));
  if (hold === undefined) {
    const { waitSeconds } = request;
    return conflict(
      request,
      waitSeconds === undefined ? 'held by somebody else' : `still not free after ${String(waitSeconds)} s`,
    );
  }
  interrupt.signal.throwIfAborted();
  const { command, name } = request;
  if (command === undefined) return keep(hold, request, interrupt.signal);
  const margin = marginMs(request.ttlSeconds);
  const { endpoints } = request.target;
  const outcome = await runCommand({ command, endpoints, hold, interrupt, marginMs: margin, name, session });
  if (outcome.is === 'ended') return outcome.code;
  if (outcome.is === 'lost') return lost(request, hold.signal.reason, outcome.survivors);
  return unguarded(request, outcome);
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

/** Says that the hold is gone, and what has become of the command. Returns the exit code. */
function lost(request: GuardRequest, reason: unknown, survivors: readonly Survivor[] = []): number {
  const why = hasCode(reason) ? reason.message : String(reason);
  const stopped = request.command === undefined ? '' : `, ${whatBecame(survivors)}`;
  console.error(`conclave ${request.verb}: ${JSON.stringify(request.name)} was lost${stopped}: ${why}`);
  return survivors.length > 0 ? EXIT.notStopped : EXIT.lost;
}

/** Says that nobody would end the command if we died. Returns the exit code. */
function unguarded(request: GuardRequest, { error, survivors }: Outcome & { is: 'unguarded' }): number {
  const why = error instanceof Error ? error.message : String(error);
  const left = survivors.length === 0 ? '' : `, ${whatBecame(survivors)}`;
  console.error(
    `conclave ${request.verb}: no guardian process can be started, and without one the command does not run${left}: ${why}`,
  );
  return survivors.length > 0 ? EXIT.notStopped : EXIT.notExecutable;
}

function whatBecame(survivors: readonly Survivor[]): string {
  if (survivors.length === 0) return 'the command was stopped';
  return `of the command could not be stopped: ${survivorsText(survivors)}`;
}
