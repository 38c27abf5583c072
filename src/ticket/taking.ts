/** Taking tickets: one or several, at any price, on terms, or only if that is enough to be admitted at once. */
import { hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import { KeyValue } from '../etcd/kv/key-value.js';
import type { Session } from '../session/session.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { Attempt, type Trace, withinLimit } from './attempt.js';
import { removeAll } from './give-back.js';
import { inOrder, rangeOf } from './line-keys.js';
import { readLine } from './read-line.js';
import { nobodyIn, tidyUp } from './nobody.js';
import { withNewId } from './owner.js';
import {
  isAdmitted,
  keyOf,
  markKeyOf,
  markOf,
  takeIfEmpty,
  takeTogether,
  type Terms,
  type TicketRequest,
} from './take.js';
import { notHeld, Ticket } from './ticket.js';
import { Turns } from './turns.js';

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

/** So many tickets of one session are being taken at once. There may be ten thousand who want one: they wait as little as they can. */
const MOST_AT_ONCE = 64;
const takings = new WeakMap<Session, Turns>();

/** So often what is only to be taken if it is admitted is guarded by all below the name; then it is taken, and looked at. */
export const MOST_RACES = 2;

/**
 * Takes a ticket, or makes the one its own that an earlier life on the same lease took: the ticket's `found` then says what
 * that was. Rejects with the signal's reason when it aborts, after the key has been removed or a limit of 3 s has passed;
 * the removal then goes on until it is confirmed or the session ends.
 */
export function takeTicket(request: TicketRequest, signal: AbortSignal): Promise<Ticket> {
  const turns = takings.get(request.session) ?? new Turns(MOST_AT_ONCE);
  takings.set(request.session, turns);
  return turns.take(signal).then((endTurn) => takeNow(request, signal).finally(endTurn));
}

async function takeNow(request: TicketRequest, signal: AbortSignal): Promise<Ticket> {
  for (;;) {
    const [ticket] = (await takeAll([request], signal)) ?? [];
    if (ticket === undefined) throw notHeld(keyOf(request)); // Without terms there is nothing that can refuse it.
    if (await makeOurs(ticket, request, signal)) return ticket;
    // What was found is gone, maybe because the earlier life has just left it: take one of our own.
  }
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
  const [first] = requests;
  if (first === undefined) return [];
  for (;;) {
    // Marked anew for each: what is left of an attempt that was refused is removed by its mark, and nothing else.
    const asked = requests.map(marked);
    const attempt = new Attempt(first.session, asked.map(traceOf));
    const taken = await attempt.run(signal, (guards) => takeTogether(asked, { guards, terms }));
    if (taken !== undefined) {
      return taken.flatMap((each, at) => {
        const request = asked[at];
        return request === undefined ? [] : [new Ticket(request, each, attempt)];
      });
    }
    if (await attempt.refused(signal)) return undefined;
  }
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
    const { kvs, revision } = await readLine(client.kv, request, { signal });
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
  const asked = marked(request);
  const attempt = new Attempt(request.session, [traceOf(asked)]);
  const taken = await attempt.run(signal, (guards) => takeIfEmpty(asked, guards));
  if (taken !== 'occupied' && taken !== 'unclear') return new Ticket(asked, taken, attempt);
  attempt.over();
  if (taken === 'occupied') return undefined;
  // Other people's data, or our own earlier ticket, lies below the name: stand in line and look.
  const ticket = await takeTicket(request, signal);
  const firstAt = await keepIfAdmitted([ticket], signal, () => ticket.leave());
  return firstAt === undefined ? undefined : ticket.seenFirst(firstAt);
}

/** Makes a ticket of an earlier life on the same lease this life's. False: it was removed meanwhile. */
async function makeOurs(ticket: Ticket, { value }: TicketRequest, signal: AbortSignal): Promise<boolean> {
  if (ticket.found === undefined) return true;
  try {
    await ticket.resume(value, signal);
    return true;
  } catch (error) {
    await withinLimit(ticket.session, ticket.leave());
    if (!hasCode(error, 'TICKET_LOST')) throw error;
    signal.throwIfAborted();
    return false;
  }
}

/**
 * The request with a mark of its own: a second try for the same key must not be removed by what looks for copies of the
 * first.
 */
function marked(request: TicketRequest): TicketRequest {
  const { note, value } = request;
  if (note !== undefined) return { ...request, note: withNewId(note) };
  return typeof value === 'string' ? { ...request, value: withNewId(value) } : request;
}

/** What an attempt to take this ticket may leave behind, and how to remove it. */
function traceOf(request: TicketRequest): Trace {
  const { last } = request;
  return {
    key: keyOf(request),
    mark: markOf(request),
    markKey: markKeyOf(request),
    removal: removeAll(request),
    tidy: last === undefined ? undefined : (): Promise<void> => tidyUp(request),
  };
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
