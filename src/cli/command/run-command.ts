/** Runs a command for as long as a hold lasts, with a guardian beside us for the case that we die. */
import { leaseHex } from '../../etcd/lease/lease.js';
import type { Session } from '../../session/session.js';
import type { Hold } from '../../ticket/hold.js';
import { orAborted } from '../../util/abort.js';
import { type Interruption, onSignals } from '../signals.js';
import { Command } from './command.js';
import { MARKS, marksWith, newMark, type Survivor } from './command-processes.js';
import { Guardian } from './guardian.js';

/** What is run, and under what. */
export interface Order {
  readonly command: readonly string[];
  readonly endpoints: readonly string[];
  readonly hold: Hold;
  readonly interrupt: Interruption;
  /** How long before the lease can end the session does; the time to stop the command in. */
  readonly marginMs: number;
  readonly name: string;
  readonly session: Session;
}

/** How it ended. Of what had to be stopped, the survivors could not be. */
export type Outcome =
  | { readonly is: 'ended'; readonly code: number }
  | { readonly is: 'lost'; readonly survivors: readonly Survivor[] }
  | { readonly is: 'unguarded'; readonly error: unknown; readonly survivors: readonly Survivor[] };

/** Resolves once the command has ended, or was stopped. Rejects with Interrupted when we are asked to end before it runs. */
export async function runCommand(order: Order): Promise<Outcome> {
  const { hold, interrupt, session, marginMs } = order;
  const mark = newMark();
  const leftMs = (): number => session.remainingMs + (marginMs * 3) / 4;
  let guardian: Guardian;
  try {
    guardian = await Guardian.start({ clock: session.client.clock, leftMs, mark });
  } catch (error) {
    return { error, is: 'unguarded', survivors: [] };
  }
  try {
    interrupt.signal.throwIfAborted();
    if (!hold.held) return { is: 'lost', survivors: [] };
    // The guardian finds it by its mark should we die before the next line.
    const command = new Command(order.command, {
      clock: session.client.clock,
      env: childEnv(order, mark),
      mark,
    });
    if (command.pid !== undefined) guardian.watchOver(command.pid);
    return await watch(command, guardian, order);
  } finally {
    await guardian.dismiss();
  }
}

/** SIGTERM comes at once when the session ends, SIGKILL in the middle of the margin, the guardian at three quarters of it. */
async function watch(
  command: Command,
  guardian: Guardian,
  { hold, interrupt, session, marginMs }: Order,
): Promise<Outcome> {
  using _signals = interrupt.passTo((name) => command.signal(name));
  using _pausing = onSignals(['SIGTSTP'], () => pause(command));
  using _resuming = onSignals(['SIGCONT'], () => {
    if (hold.held) command.signal('SIGCONT');
  });
  const ended = orAborted(Promise.race([command.ended, guardian.failed]), hold.signal);
  const outcome = await ended.then(
    (code) => ({ code }),
    (error: unknown) => ({ error }),
  );
  // A command that ended although its hold was gone already has not run under it.
  if (hold.held && 'code' in outcome) return { code: outcome.code, is: 'ended' };
  // A key that was deleted says nothing of the lease.
  guardian.hurry((marginMs * 3) / 4);
  const survivors = await command.stop(Math.min(marginMs / 2, session.remainingMs + marginMs / 2));
  if (hold.held && 'error' in outcome) return { error: outcome.error, is: 'unguarded', survivors };
  return { is: 'lost', survivors };
}

/** Ctrl-Z stops the command before us. When we go on, it goes on only if the hold has lasted meanwhile. */
function pause(command: Command): void {
  command.signal('SIGSTOP');
  process.kill(process.pid, 'SIGSTOP');
}

/** What the command finds in its environment. */
function childEnv({ endpoints, hold, name, session }: Order, mark: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    CONCLAVE_ENDPOINTS: endpoints.join(','),
    CONCLAVE_FENCING_TOKEN: String(hold.fencingToken),
    CONCLAVE_KEY: hold.key,
    CONCLAVE_LEASE: leaseHex(session.leaseId),
    CONCLAVE_NAME: name,
    CONCLAVE_REVISION: String(hold.createRevision),
    [MARKS]: marksWith(mark, process.env),
  };
}
