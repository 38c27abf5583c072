/** What the locks of this room share: waiting for admission, and running work under a hold. */
import { hasCode } from '../errors/conclave-error.js';
import { withinLimit } from '../ticket/attempt.js';
import type { Policy } from '../ticket/line-audience.js';
import type { Hold } from '../ticket/hold.js';
import type { Ticket } from '../ticket/ticket.js';
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
    await withinLimit(ticket.session, ticket.leave());
    throw error;
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
  // NOT_HELD: `work` itself released it, or made another hold of it.
  if (!held.held && !hasCode(held.signal.reason, 'NOT_HELD')) throw held.signal.reason;
  await release(held);
  return result;
}
