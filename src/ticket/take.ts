/** The transactions that take tickets. Each is guarded, so that it can be sent again when its answer is lost. */
import { ConclaveError } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { OpResult, TxnResult } from '../etcd/kv/kv.js';
import { type Op, op } from '../etcd/kv/op.js';
import type { Session } from '../session/session.js';
import { firstOnly, type Policy, ticketLost } from './line-audience.js';
import { idOf, inOrder, isTicket, type LineName } from './line-keys.js';
import { lineIfUsed } from './lines.js';
import { isFront, kvsOf, MOST_OPS, readOp } from './read-line.js';

/** What a ticket is to be. */
export interface TicketRequest extends LineName {
  readonly session: Session;
  /** The lock's, election's or queue's name; the key is `name/suffix`. */
  readonly name: string;
  readonly suffix: string;
  readonly value: string | Uint8Array;
  /** Who we are, when `value` does not say so: kept in a key of its own, `noteKeyOf`, for as long as the ticket. */
  readonly note?: string | undefined;
  /** Who of the line is admitted. @default firstOnly */
  readonly policy?: Policy;
  /** What else to do when this ticket leaves as the last of its line. Safe to repeat. */
  readonly last?: readonly Op[] | undefined;
}

/** What else the transaction that takes a ticket is to compare and to do. */
export interface Terms {
  readonly guards?: readonly Compare[];
  /** Says that the guards imply that the keys do not exist, which spares as many compares. @default false */
  readonly impliesMissing?: boolean;
  readonly also?: readonly Op[];
}

/** What a transaction that takes a ticket found. */
export interface Taken {
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly firstAt: bigint | undefined;
  readonly found: KeyValue | undefined;
  /** The revision of the last write to the key that marks it; 0n: there is none. */
  readonly mark: bigint;
}

/** A transaction that takes a ticket gets this long; then its outcome is found out by looking. */
export const TAKE_MS = 5000;
/** Beyond this many keys a line is followed rather than read along with the ticket. */
const MOST_LOOKED_AT = 200;

export function keyOf({ name, suffix }: TicketRequest): string {
  return `${name}/${suffix}`;
}

/** Where the notes of a line's tickets are: outside `name/`, which belongs to the tickets. */
export function notesOf(name: string): string {
  return `${name}.~who/`;
}

/** The key of a ticket's note. */
export function noteKeyOf({ name, suffix }: Pick<TicketRequest, 'name' | 'suffix'>): string {
  return `${notesOf(name)}${suffix}`;
}

/** What writes the ticket's note. */
export function writeNote(request: TicketRequest): Op[] {
  const { note, session } = request;
  return note === undefined ? [] : [op.put(noteKeyOf(request), note, { leaseId: session.leaseId })];
}

/** The key by whose last write a ticket is one life's, and not another's on the same lease. */
export function markKeyOf(request: TicketRequest): string {
  return request.note === undefined ? keyOf(request) : noteKeyOf(request);
}

/** What that key then holds. No other attempt writes the same. */
export function markOf({ note, value }: Pick<TicketRequest, 'note' | 'value'>): Buffer {
  return Buffer.from(note ?? value);
}

/**
 * One transaction: creates the keys, and sees in the same breath who is admitted. Finds keys that the same lease created
 * before. Undefined: the guards of `terms` did not hold, and nothing was written.
 */
export async function takeTogether(
  requests: readonly TicketRequest[],
  { terms = {}, guards }: { readonly terms?: Terms; readonly guards: readonly Compare[] },
): Promise<readonly Taken[] | undefined> {
  const [first] = requests;
  if (first === undefined) return [];
  const { leaseId, client } = first.session;
  const puts = requests.map((request) => op.put(keyOf(request), request.value, { leaseId }));
  const noted = requests.filter(({ note }) => note !== undefined);
  const gets = [...requests.map(keyOf), ...noted.map(noteKeyOf)].map((key) => op.get(key));
  const also = [...(terms.also ?? []), ...requests.flatMap(writeNote)];
  const asked = requests.map(look);
  const fits = also.length + puts.length + asked.flat().length <= MOST_OPS;
  const looks = fits ? asked.flat() : [];
  const missing =
    terms.impliesMissing === true ? [] : requests.map((request) => compare.missing(keyOf(request)));
  const guarded = [...guards, ...(terms.guards ?? [])];
  const result = await client.kv.txn(
    {
      else: [...gets, ...looks],
      // Of as many keys as fit into a transaction, all new ones: that some of them are missing says it of all.
      if: [...missing.slice(0, MOST_OPS - guarded.length), ...guarded],
      then: [...also, ...puts, ...looks],
    },
    { idempotent: true, timeoutMs: TAKE_MS, waits: true },
  );
  const own = result.succeeded ? [] : result.responses.slice(0, requests.length).map(firstKv);
  if (!result.succeeded && own.every((kv) => kv === undefined)) return undefined;
  const skip = result.succeeded ? also.length + requests.length : gets.length;
  const seen = fits
    ? { responses: result.responses.slice(skip), revision: result.revision }
    : await lookLater(client, asked.flat());
  let next = 0;
  return requests.map((request, at) => {
    const looked = seen.responses.slice(next, (next += asked[at]?.length ?? 0));
    const found = own[at];
    const note = noted.indexOf(request);
    const mark = note < 0 ? found : firstKv(result.responses[requests.length + note]);
    return readTaken(request, result, { found, looked, mark, revision: seen.revision });
  });
}

/** A transaction of its own for what did not fit into the first. A failure only costs the look. */
async function lookLater(
  client: Client,
  looks: readonly Op[],
): Promise<Pick<TxnResult, 'responses' | 'revision'>> {
  const nothing = { responses: [], revision: 0n };
  if (looks.length === 0 || looks.length > MOST_OPS) return nothing;
  return client.kv.txn({ then: looks }).catch(() => nothing);
}

/** As `takeTogether` for one ticket, but only if there is no key below the name at all. */
export async function takeIfEmpty(
  request: TicketRequest,
  guards: readonly Compare[],
): Promise<Taken | 'occupied' | 'unclear'> {
  const { session, name, value } = request;
  const key = keyOf(request);
  const prefix = { prefix: `${name}/` };
  const firstFew = op.get(prefix, { keysOnly: true, limit: 100, sort: { by: 'create', order: 'asc' } });
  const put = op.put(key, value, { leaseId: session.leaseId });
  const result = await session.client.kv.txn(
    {
      else: [op.get(key), firstFew],
      if: [compare.createRevision(prefix, '=', 0n), ...guards],
      then: [put, ...writeNote(request)],
    },
    { idempotent: true, timeoutMs: TAKE_MS, waits: true },
  );
  if (result.succeeded) {
    const at = result.revision;
    return { createRevision: at, firstAt: at, found: undefined, mark: at, modRevision: at };
  }
  const [own, ahead] = result.responses;
  if (firstKv(own) !== undefined) return 'unclear';
  return ahead.kvs.some((kv) => isTicket(kv, name)) ? 'occupied' : 'unclear';
}

/** Whether `policy` admits the key in a line that was read. */
export function isAdmitted(
  request: TicketRequest,
  line: readonly KeyValue[],
  beside: KeyValue | undefined,
): boolean {
  const inLine = line.filter((kv) => isTicket(kv, request.name));
  const key = idOf(keyOf(request));
  for (const kv of (request.policy ?? firstOnly)(inLine, beside)) if (idOf(kv) === key) return true;
  return false;
}

/** Looks whether the ticket created at `createRevision` is admitted; if so, the revision that proves it. */
export async function lookAhead(
  request: TicketRequest,
  createRevision: bigint,
  signal: AbortSignal,
): Promise<bigint | undefined> {
  const { besideKey, name, policy, session } = request;
  const keysOnly = policy === undefined;
  const ahead = readOp(name, { keysOnly, maxCreateRevision: createRevision });
  const looks = besideKey === undefined ? [ahead] : [ahead, op.get(besideKey)];
  const { responses, revision } = await session.client.kv.txn({ then: looks }, { signal });
  const line = inOrder(kvsOf(responses[0]), name);
  const key = keyOf(request);
  if (!line.some((kv) => idOf(kv) === idOf(key) && kv.createRevision === createRevision))
    throw ticketLost(key);
  return isAdmitted(request, line, firstKv(responses[1])) ? revision : undefined;
}

/** The first key that a read found. */
export function firstKv(response: OpResult | undefined): KeyValue | undefined {
  return response?.type === 'get' ? response.kvs[0] : undefined;
}

/** Looking at who is admitted spares the wait; whoever follows the line already takes the proof from there. */
function look(request: TicketRequest): Op[] {
  const { session, name, policy, besideKey } = request;
  if (lineIfUsed(session.client, request)?.live === true) return [];
  const sort = { by: 'create', order: 'asc' } as const;
  const prefix = { prefix: `${name}/` };
  if (policy === undefined || policy === firstOnly)
    return [op.get(prefix, { keysOnly: true, limit: 1, sort })];
  const line = readOp(name, { limit: MOST_LOOKED_AT, sort });
  return besideKey === undefined ? [line] : [line, op.get(besideKey)];
}

interface Read {
  readonly found: KeyValue | undefined;
  /** What the key that marks it holds; only if `found`. */
  readonly mark: KeyValue | undefined;
  readonly looked: readonly OpResult[];
  /** When it was looked. */
  readonly revision: bigint;
}

function readTaken(request: TicketRequest, result: TxnResult, read: Read): Taken {
  const { found, looked, mark, revision } = read;
  const [line, beside] = looked;
  const admitted =
    line !== undefined &&
    isFront(line) &&
    isAdmitted(request, inOrder(kvsOf(line), request.name), firstKv(beside));
  const firstAt = admitted ? revision : undefined;
  if (result.succeeded) {
    const at = result.revision;
    return { createRevision: at, firstAt, found: undefined, mark: at, modRevision: at };
  }
  if (found?.leaseId !== request.session.leaseId) throw takenBySomebodyElse(keyOf(request), found);
  const fromLostTry = mark?.value.equals(markOf(request)) === true;
  return {
    createRevision: found.createRevision,
    firstAt,
    found: fromLostTry ? undefined : found,
    mark: mark?.modRevision ?? 0n,
    modRevision: found.modRevision,
  };
}

function takenBySomebodyElse(key: string, found: KeyValue | undefined): ConclaveError {
  if (found === undefined) {
    return new ConclaveError('TICKET_LOST', `${key} was removed before the others taken with it were seen`, {
      key,
    });
  }
  const owner = found.leaseId === undefined ? 'no lease' : `lease ${found.leaseId.toString(16)}`;
  const text = `${key} is bound to ${owner}, not to our session's: somebody else wrote it. Delete it, or use another name.`;
  return new ConclaveError('TICKET_LOST', text, { key });
}
