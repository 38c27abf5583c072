/**
 * A reader's request to become the writer: one lease-bound key beside the line, so that there is at most one request and
 * a second is refused by the transaction that would make it. The reader's own key is not touched before it is granted.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { type Compare, compare } from '../etcd/compare.js';
import type { KeyValue } from '../etcd/key-value.js';
import { type Op, op } from '../etcd/op.js';
import { attempt, withinLimit } from '../ticket/attempt.js';
import { ticketLost } from '../ticket/line-audience.js';
import { ownerValue } from '../ticket/owner.js';
import { sweeperOf } from '../ticket/sweeper.js';
import { firstKv, TAKE_MS } from '../ticket/take.js';
import type { Ticket } from '../ticket/ticket.js';
import { orAborted } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { onlyReader, upgradeKeyOf } from './rw-policy.js';

/** Makes the ticket the writer's. Resolves with the revision of the write that does so. Called once. */
export type Grant = () => Promise<bigint>;

/**
 * Asks to make a reader's ticket the writer's, and resolves once it is the only reader's. Rejects with `DEADLOCK` at once
 * when another reader has asked before, with `TICKET_LOST`, and with the signal's reason; the request has then been
 * withdrawn, and the ticket, if it is there, is the reader's as before.
 */
export async function askToUpgrade(ticket: Ticket, signal: AbortSignal): Promise<Grant> {
  const { session } = ticket;
  const key = upgradeKeyOf(ticket.name);
  const value = ownerValue(session, { ticket: ticket.key });
  const own = compare.value(key, '=', value);
  const isOurs = (kv: KeyValue): boolean => kv.value.equals(Buffer.from(value));
  const withdrawal = { if: [own], then: [op.delete(key)] };
  await attempt(session, [{ isOurs, key }], signal, (onRepeat) => ask(ticket, { key, onRepeat, value }));
  try {
    await ticket.turn(onlyReader, signal);
    signal.throwIfAborted();
  } catch (error) {
    await withinLimit(session, sweeperOf(session).remove(key, withdrawal).confirmed);
    throw error;
  }
  return async () => {
    try {
      return await write(ticket, [...ticket.guards, own], [op.delete(key)], signal);
    } catch (error) {
      await withinLimit(session, sweeperOf(session).remove(key, withdrawal).confirmed);
      throw error;
    } finally {
      sweeperOf(session).putDown(key);
    }
  };
}

interface Question {
  readonly key: string;
  readonly value: string;
  readonly onRepeat: () => void;
}

/**
 * One write: the request ends where the write hold begins. Readers that came before the request may stand behind a writer
 * who waits behind us. If that one leaves before the write is there, they are let in, so the write needs it to be there;
 * if it is not, we wait anew until we are the only reader.
 */
async function write(
  ticket: Ticket,
  guards: readonly Compare[],
  also: readonly Op[],
  signal: AbortSignal,
): Promise<bigint> {
  const { line } = ticket;
  const stopUsing = line.use();
  try {
    for (;;) {
      await ticket.turn(onlyReader, signal);
      // Looked up in the same turn of the event loop as the line admitted us, or later: what it shows then is guarded.
      const behind = line.keyAfter(ticket.key);
      const next = behind === undefined ? undefined : line.get(behind);
      const still = next === undefined ? [] : [compare.createRevision(next.key, '=', next.createRevision)];
      if (!isOnlyReader(line.keys, line.beside, ticket.key)) continue;
      const value = ownerValue(ticket.session, { mode: 'write' });
      try {
        return await ticket.rewrite(value, [...guards, ...still], also);
      } catch (error) {
        if (!hasCode(error, 'NOT_HELD') || still.length === 0) throw error;
        const { kvs } = await ticket.session.client.kv.range(ticket.key);
        if (kvs[0]?.createRevision !== ticket.createRevision) throw error;
        // Ours is there: it was the one behind that went. The line hears of it.
        await untilGone(ticket, next, signal);
      }
    }
  } finally {
    stopUsing();
  }
}

/** Resolves once the line has seen that the key is gone. */
async function untilGone(ticket: Ticket, kv: KeyValue | undefined, signal: AbortSignal): Promise<void> {
  if (kv === undefined) return;
  const gone = new Deferred<void>();
  const stop = ticket.line.follow(kv.key, kv.createRevision, () => gone.resolve());
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

async function ask(ticket: Ticket, { key, value, onRepeat }: Question): Promise<void> {
  const { client, leaseId } = ticket.session;
  const result = await client.kv.txn(
    {
      else: [op.get(key), op.get(ticket.key)],
      if: [ticket.there, compare.missing(key)],
      then: [op.put(key, value, { leaseId })],
    },
    { idempotent: true, onRepeat, timeoutMs: TAKE_MS },
  );
  if (result.succeeded) return;
  const asked = firstKv(result.responses[0]);
  if (asked?.value.equals(Buffer.from(value)) === true) return; // By a first try whose answer was lost.
  if (firstKv(result.responses[1])?.createRevision !== ticket.createRevision) throw ticketLost(ticket.key);
  const text = `${ticket.key} cannot be upgraded: another reader has asked to (${key}), and each would wait for the other. Release it and ask for a write lock.`;
  throw new ConclaveError('DEADLOCK', text, { key: ticket.key });
}
