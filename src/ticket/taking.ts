/** Taking tickets: one or several, at any price, on terms, or only if that is enough to be admitted at once. */
import { type Compare, compare } from '../etcd/compare.js';
import { KeyValue } from '../etcd/key-value.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { attempt, putDown, withinLimit } from './attempt.js';
import { removeAll } from './give-back.js';
import { inOrder, rangeOf } from './line-keys.js';
import { nobodyIn, tidyUp } from './nobody.js';
import type { Abandoned } from './sweeper.js';
import {
  isAdmitted,
  keyOf,
  type Taken,
  takeIfEmpty,
  takeTogether,
  type Terms,
  type TicketRequest,
} from './take.js';
import { notHeld, Ticket } from './ticket.js';

/** What is known before a ticket is taken only if it would be admitted. */
export interface Outlook extends Terms {
  /** The key beside the line as it will be then. */
  readonly beside: KeyValue | undefined;
  /** As in the request. @default the request's */
  readonly last?: TicketRequest['last'];
}

/** A ticket that was admitted as soon as it was taken. */
export interface Admitted {
  readonly ticket: Ticket;
  /** The revision that proves it. */
  readonly token: bigint;
}

/** So often what is only to be taken if it is admitted is guarded by all below the name; then it is taken, and looked at. */
export const MOST_RACES = 2;

/**
 * Takes a ticket, or finds the one that the same lease took before. Rejects with the signal's reason when it aborts,
 * after the key has been removed or a limit of 3 s has passed; the removal then goes on until it is confirmed or the
 * session ends.
 */
export async function takeTicket(request: TicketRequest, signal: AbortSignal): Promise<Ticket> {
  const [ticket] = (await takeAll([request], signal)) ?? [];
  if (ticket === undefined) throw notHeld(keyOf(request)); // Without terms there is nothing that can refuse it.
  return ticket;
}

/** As `takeTicket`, but only if the guards of `terms` hold; undefined, and nothing written, when they do not. */
export async function takeIf(
  request: TicketRequest,
  terms: Terms,
  signal: AbortSignal,
): Promise<Ticket | undefined> {
  return (await takeAll([request], signal, terms))?.[0];
}

/**
 * As `takeTicket`, for several lines at once: all tickets have the same create revision, so that every line agrees on
 * their order. One session's; the suffixes must be new ones. Undefined, and nothing written: the guards of `terms` did not
 * hold.
 */
export async function takeAll(
  requests: readonly TicketRequest[],
  signal: AbortSignal,
  terms: Terms = {},
): Promise<readonly Ticket[] | undefined> {
  const taken = await attemptAll(requests, signal, terms);
  return taken?.map(([request, each]) => new Ticket(request, each));
}

/**
 * Takes a ticket only if its policy admits it at once; undefined, and nothing left, when it does not. `plan` looks at the
 * key beside the line and says what it will be and what else the transaction does.
 *
 * Nothing is written for a ticket that would not be admitted, unless others write below the name between the look and the
 * transaction, twice: then it stands in line, looks, and leaves. For that long, who comes after it may wait behind it.
 */
export async function takeIfAdmitted(
  request: TicketRequest,
  plan: (beside: KeyValue | undefined, nobody: readonly Compare[] | undefined) => Outlook,
  signal: AbortSignal,
): Promise<Admitted | undefined> {
  const range = rangeOf(request);
  const { client } = request.session;
  for (let tries = 0; ; tries++) {
    const { kvs, revision } = await client.kv.range(range, { signal });
    const line = inOrder(kvs, request.name);
    const beside = kvs.find((kv) => kv.key === request.besideKey);
    const nobody = nobodyIn({ kvs, revision }, request.name);
    const { guards = [], also = [], beside: then, last = request.last } = plan(beside, nobody);
    if (!isAdmitted(request, [...line, imagined(request, revision + 1n)], then)) return undefined;
    const blindly = tries >= MOST_RACES;
    const unchanged = blindly ? [] : [compare.modRevision(range, '<', revision + 1n)];
    const terms = { also, guards: [...guards, ...unchanged] };
    const ticket = await takeIf({ ...request, last }, terms, signal);
    if (ticket !== undefined && !blindly) return { ticket, token: ticket.createRevision };
    if (ticket !== undefined) {
      const token = await keepIfAdmitted([ticket], signal, () => ticket.leave());
      return token === undefined ? undefined : { ticket, token };
    }
    // Somebody else wrote in between; look again.
    await sleep(client.clock, backoffMs(tries), signal);
  }
}

/**
 * Looks whether tickets that stand in line are all admitted; the revision that proves it is their token. If not, or if
 * that cannot be seen, leaves with `leave`.
 */
export async function keepIfAdmitted(
  tickets: readonly Ticket[],
  signal: AbortSignal,
  leave: () => Promise<void>,
): Promise<bigint | undefined> {
  const [first] = tickets;
  if (first === undefined) return undefined;
  try {
    const proofs = await Promise.all(tickets.map((ticket) => ticket.admittedAt(signal)));
    signal.throwIfAborted();
    const seen = proofs.filter((proof) => proof !== undefined);
    if (seen.length === proofs.length) return seen.reduce((most, proof) => (proof > most ? proof : most));
  } catch (error) {
    await withinLimit(first.session, leave());
    throw error;
  }
  await leave();
  return undefined;
}

/** As `takeTicket`, but only when nobody else is in line; undefined, and nothing left in etcd, when somebody is. */
export async function takeIfFirst(request: TicketRequest, signal: AbortSignal): Promise<Ticket | undefined> {
  const { session } = request;
  const claims = [claim(request)];
  const taken = await attempt(session, claims, signal, (onRepeat) => takeIfEmpty(request, onRepeat));
  if (taken === 'occupied') {
    putDown(session, claims);
    return undefined;
  }
  if (taken !== 'unclear') return new Ticket(request, taken);
  // Other people's data, or our own earlier ticket, lies below the name: stand in line and look.
  const [found] = (await attemptAll([request], signal, {})) ?? [];
  if (found === undefined) throw notHeld(keyOf(request));
  const ticket = new Ticket(request, found[1]);
  const firstAt = await keepIfAdmitted([ticket], signal, () => ticket.leave());
  return firstAt === undefined ? undefined : new Ticket(request, { ...found[1], firstAt });
}

/** The transaction that takes tickets, and what it must leave behind when it is given up: nothing. */
async function attemptAll(
  requests: readonly TicketRequest[],
  signal: AbortSignal,
  terms: Terms,
): Promise<readonly (readonly [TicketRequest, Taken])[] | undefined> {
  const [first] = requests;
  if (first === undefined) return [];
  const claims = requests.map(claim);
  const taken = await attempt(first.session, claims, signal, (onRepeat) =>
    takeTogether(requests, { onRepeat, terms }),
  );
  if (taken === undefined) putDown(first.session, claims);
  return taken?.flatMap((each, at) => {
    const request = requests[at];
    return request === undefined ? [] : [[request, each] as const];
  });
}

/** What an attempt to take this ticket may leave behind, and how to remove it. */
function claim(request: TicketRequest): Abandoned {
  const { last } = request;
  const tidy = last === undefined ? undefined : (): Promise<void> => tidyUp(request);
  return { key: keyOf(request), removal: removeAll(request), tidy };
}

/** The key as it will be once it has been taken. */
function imagined(request: TicketRequest, revision: bigint): KeyValue {
  return new KeyValue({
    createRevision: revision,
    key: Buffer.from(keyOf(request)),
    lease: request.session.leaseId,
    modRevision: revision,
    value: Buffer.from(request.value),
    version: 1n,
  });
}
