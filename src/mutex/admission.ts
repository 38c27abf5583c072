/** What the locks of this room share: waiting for admission, and running work under a hold. */
import type { ConclaveError } from '../errors/conclave-error.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { withinLimit } from '../ticket/attempt.js';
import { gaveUp } from '../ticket/gave-up.js';
import type { Policy } from '../ticket/line-audience.js';
import type { Hold } from '../ticket/hold.js';
import type { Ticket } from '../ticket/ticket.js';
import { limitWait } from '../util/abort.js';
import { checkFunction } from '../util/validate.js';

/**
 * Resolves once `policy` admits the ticket, with the revision that proves it: the hold's token. Leaves the line, and
 * rejects as `Ticket.turn` does, if that fails.
 */
export async function admission(ticket: Ticket, policy: Policy, signal: AbortSignal): Promise<bigint> {
  try {
    const proof = ticket.firstAt ?? (await ticket.turn(policy, signal));
    signal.throwIfAborted();
    return proof;
  } catch (error) {
    const [told] = await Promise.all([gaveUp(error, ticket), withinLimit(ticket.session, ticket.leave())]);
    throw told;
  }
}

/** What a wait hangs on besides its ticket. */
export interface Hope {
  readonly ticket: Ticket;
  /** From this revision on the key beside the line must be as it is to be. */
  readonly since: bigint;
  /** Why there is no hope any more, with this key beside the line; undefined: there is. */
  readonly hopeless: (beside: KeyValue | undefined) => ConclaveError | undefined;
}

/**
 * Waits as `wait` does, for as long as the key beside the line gives hope: then the signal that `wait` is given aborts with
 * what `hopeless` says. It aborts with `signal`, too.
 */
export async function whileHopeful<T>(
  { hopeless, since, ticket }: Hope,
  signal: AbortSignal,
  wait: (limit: AbortSignal) => Promise<T>,
): Promise<T> {
  const { line, session } = ticket;
  const given = new AbortController();
  using limit = limitWait(session.client.clock, { signal }, `wait for ${ticket.key}`, [given.signal]);
  const look = (): void => {
    if (!line.live || line.revision < since) return;
    const reason = hopeless(line.beside);
    if (reason !== undefined) given.abort(reason);
  };
  const stopUsing = line.use();
  const stopListening = line.onChange(look);
  look();
  try {
    return await wait(limit.signal);
  } finally {
    stopListening();
    stopUsing();
  }
}

/**
 * Takes a hold, runs `work` under it, gives it back, and passes on what `work` returned. Rejects with the reason of the
 * loss when the hold was lost before `work` was done, even if `work` went through.
 */
export async function runUnder<H extends Hold, T>(
  take: () => Promise<H>,
  work: (hold: H) => T | Promise<T>,
  release: (hold: H) => Promise<void>,
): Promise<T> {
  checkFunction(work, 'what runs under a hold');
  await using held = await take();
  const result = await work(held);
  // `work` itself may have released it, or made another hold of it.
  if (held.wasLost) throw held.signal.reason;
  await release(held);
  return result;
}
