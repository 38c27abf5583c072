/**
 * A reader's request to become the writer: one lease-bound key beside the line, so that there is at most one request and
 * a second is refused by the transaction that would make it. The reader's own key is not touched before it is granted.
 *
 * An upgrade hangs on two keys, the reader's and the request: it hears of the loss of either, at once. With the first
 * nothing is held any more; with the second the reader reads on.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { op } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { Attempt, withinLimit } from '../ticket/attempt.js';
import { ticketLost } from '../ticket/line-audience.js';
import { ownerValue } from '../ticket/owner.js';
import { firstKv, TAKE_MS } from '../ticket/take.js';
import type { Ticket } from '../ticket/ticket.js';
import { orAborted } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { whileHopeful } from './admission.js';
import { onlyReader, upgradeKeyOf } from './rw-policy.js';
import { tagOf } from './tag.js';

/** How an upgrade ended that was not given up: with the revision of the write that granted it, or with nothing held. */
export type Upgraded = { readonly token: bigint } | { readonly lost: unknown };

/** A request that stands. */
interface UpgradeRequest {
  readonly key: string;
  /** The revision that made it. Whatever else is there is not it. */
  readonly askedAt: bigint;
}

/**
 * Asks to make a reader's ticket the writer's, waits until it is the only reader's, and makes it so. `lost`: the ticket is
 * gone, or nobody can tell what it is now. Rejects when it is the reader's as before, and the request withdrawn: with
 * `DEADLOCK` at once when another reader has asked before, with `TICKET_LOST` when the request was removed from outside,
 * and with the signal's reason.
 */
export async function becomeWriter(ticket: Ticket, signal: AbortSignal): Promise<Upgraded> {
  try {
    return await askAndWait(ticket, signal);
  } catch (error) {
    if (hasCode(error, 'TICKET_LOST') && error.key === ticket.key) return { lost: error };
    throw error;
  }
}

/** Makes the request, waits for its grant, and withdraws it unless the grant has removed it. */
async function askAndWait(ticket: Ticket, signal: AbortSignal): Promise<Upgraded> {
  const { session } = ticket;
  const key = upgradeKeyOf(ticket.name);
  const value = ownerValue(session, { ticket: ticket.key });
  const attempt = new Attempt(session, [{ key, mark: value }]);
  const askedAt = await attempt.run(signal, (guards) => ask(ticket, { guards, key, value }));
  if (askedAt === undefined) {
    await attempt.refused(signal); // Nothing but the floor can have refused it.
    return askAndWait(ticket, signal);
  }
  let upgraded: Upgraded | undefined;
  try {
    upgraded = await untilWriter(ticket, { askedAt, key }, signal);
    return upgraded;
  } finally {
    if (upgraded !== undefined && 'token' in upgraded) attempt.over();
    else await withinLimit(session, attempt.withdraw());
  }
}

/** Waits until the ticket is the only reader's, and makes it the writer's. */
function untilWriter(ticket: Ticket, request: UpgradeRequest, signal: AbortSignal): Promise<Upgraded> {
  const hopeless = (beside: KeyValue | undefined): ConclaveError | undefined =>
    beside?.modRevision === request.askedAt ? undefined : requestLost(request);
  return whileHopeful({ hopeless, since: request.askedAt, ticket }, signal, async (limit) => {
    for (;;) {
      await ticket.turn(onlyReader, limit);
      limit.throwIfAborted();
      const { line } = ticket;
      // Looked up in the same turn of the event loop as the line admits us: what it shows then is guarded.
      if (!isOnlyReader(line.keys, line.beside, ticket.key)) continue;
      const gate = gateOf(line.keys, request);
      const upgraded = await write(ticket, request, gate);
      if (upgraded !== 'refused') return upgraded;
      await stillAsked(ticket, request, limit);
      // Both are there: it was the gate that went. The line hears of it.
      await untilGone(ticket, gate, limit);
    }
  });
}

/**
 * One write: the request ends where the write hold begins. Refused, and nothing is written, when one of the keys that it
 * hangs on is not there.
 */
async function write(
  ticket: Ticket,
  { askedAt, key }: UpgradeRequest,
  gate: KeyValue | undefined,
): Promise<Upgraded | 'refused'> {
  const asked = compare.modRevision(key, '=', askedAt);
  const closed = gate === undefined ? [] : [compare.createRevision(gate.keyBytes, '=', gate.createRevision)];
  const value = ownerValue(ticket.session, { mode: 'write' });
  try {
    return { token: await ticket.rewrite(value, [...ticket.guards, asked, ...closed], [op.delete(key)]) };
  } catch (error) {
    return hasCode(error, 'NOT_HELD') ? 'refused' : { lost: error };
  }
}

/**
 * The writer behind us who keeps a reader waiting that came before the request: if he leaves before our write is there,
 * that reader is let in, so the write needs him. There are no more of them than when we asked, so no more refusals.
 */
function gateOf([, ...behind]: Iterable<KeyValue>, { askedAt }: UpgradeRequest): KeyValue | undefined {
  const keeps = behind.some((kv) => tagOf(kv).mode === 'read' && kv.createRevision < askedAt);
  return keeps ? behind[0] : undefined;
}

/** Rejects with `TICKET_LOST` when the ticket, or else the request, is not as we left it. */
async function stillAsked(ticket: Ticket, request: UpgradeRequest, signal: AbortSignal): Promise<void> {
  const { clock, kv } = ticket.session.client;
  const looks = [ticket.key, request.key].map((key) => op.get(key));
  const { responses } = await untilAnswered(clock, signal, () => kv.txn({ then: looks }, { signal }));
  if (firstKv(responses[0])?.modRevision !== ticket.mark) throw ticketLost(ticket.key);
  if (firstKv(responses[1])?.modRevision !== request.askedAt) throw requestLost(request);
}

/** Resolves once the line has seen that the key is gone. */
async function untilGone(ticket: Ticket, kv: KeyValue | undefined, signal: AbortSignal): Promise<void> {
  if (kv === undefined) return;
  const gone = new Deferred<void>();
  const { createRevision } = kv;
  const stop = ticket.line.follow({ createRevision, gone: () => gone.resolve(), key: kv });
  try {
    await orAborted(gone.promise, signal);
  } finally {
    stop();
  }
}

function isOnlyReader(line: Iterable<KeyValue>, beside: KeyValue | undefined, key: string): boolean {
  for (const kv of onlyReader(line, beside)) return kv.key === key;
  return false;
}

interface Question {
  readonly key: string;
  readonly value: string;
  readonly guards: readonly Compare[];
}

/** Makes the request. Resolves with the revision that made it; undefined, and nothing written: the session's floor refused it. */
async function ask(ticket: Ticket, { guards, key, value }: Question): Promise<bigint | undefined> {
  const { client, leaseId } = ticket.session;
  const { responses, revision, succeeded } = await client.kv.txn(
    {
      else: [op.get(key), op.get(ticket.key)],
      if: [ticket.there, compare.missing(key), ...guards],
      then: [op.put(key, value, { leaseId })],
    },
    { idempotent: true, timeoutMs: TAKE_MS, waits: true },
  );
  if (succeeded) return revision;
  const asked = firstKv(responses[0]);
  if (asked?.value.equals(Buffer.from(value)) === true) return asked.modRevision; // By a first try whose answer was lost.
  if (firstKv(responses[1])?.createRevision !== ticket.createRevision) throw ticketLost(ticket.key);
  if (asked === undefined) return undefined;
  const text = `${ticket.key} cannot be upgraded: another reader has asked to (${key}), and each would wait for the other. Release it and ask for a write lock.`;
  throw new ConclaveError('DEADLOCK', text, { key: ticket.key });
}

function requestLost({ key }: UpgradeRequest): ConclaveError {
  const text = `${key}, the request to upgrade, was removed or rewritten by somebody else; the read lock is held as before`;
  return new ConclaveError('TICKET_LOST', text, { key });
}
