/** Taking tickets: one or several, at any price, on terms, or only if that is enough to be admitted at once. */
import { type Compare, compare } from '../etcd/compare.js';
import { KeyValue } from '../etcd/key-value.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { attempt, putDown, withinLimit } from './attempt.js';
import { removeAll } from './give-back.js';
import { ticketLost } from './line-audience.js';
import { inOrder, isTicket, rangeOf } from './line-keys.js';
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
 * Takes a ticket only if its policy admits it at once; undefined, and nothing ever written, when it does not. `plan`
 * looks at the key beside the line and says what it will be and what else the transaction does.
 */
export async function takeIfAdmitted(
  request: TicketRequest,
  plan: (beside: KeyValue | undefined, nobody: readonly Compare[] | undefined) => Outlook,
  signal: AbortSignal,
): Promise<Ticket | undefined> {
  const range = rangeOf(request);
  const { client } = request.session;
  for (let tries = 0; ; tries++) {
    const { kvs, revision } = await client.kv.range(range, { signal });
    const line = inOrder(kvs, request.name);
    const beside = kvs.find((kv) => kv.key === request.besideKey);
    const {
      guards = [],
      also = [],
      beside: then,
      last = request.last,
    } = plan(beside, nobodyIn({ kvs, revision }, request.name));
    if (!isAdmitted(request, [...line, imagined(request, revision + 1n)], then)) return undefined;
    const unchanged = compare.modRevision(range, '<', revision + 1n);
    const terms = { also, guards: [...guards, unchanged] };
    const ticket = await takeIf({ ...request, last }, terms, signal);
    if (ticket !== undefined) return ticket;
    // Somebody else wrote in between; look again.
    await sleep(client.clock, backoffMs(tries), signal);
  }
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
  if (ticket.firstAt !== undefined) return ticket;
  try {
    const firstAt = await lookAhead(ticket, signal);
    if (firstAt !== undefined) return new Ticket(request, { ...found[1], firstAt });
  } catch (error) {
    await withinLimit(session, ticket.leave());
    throw error;
  }
  await ticket.leave();
  return undefined;
}

/** Reads who is ahead of a ticket; with nobody ahead, the revision that proves it. */
async function lookAhead(
  { createRevision, key, name, session }: Ticket,
  signal: AbortSignal,
): Promise<bigint | undefined> {
  const { kvs, revision } = await session.client.kv.range(
    { prefix: `${name}/` },
    { keysOnly: true, maxCreateRevision: createRevision, signal },
  );
  const own = kvs.find((kv) => kv.key === key);
  if (own?.createRevision !== createRevision) throw ticketLost(key);
  return kvs.some((kv) => kv !== own && isTicket(kv, name)) ? undefined : revision;
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
