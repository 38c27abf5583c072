/** Whether nobody is in a line, whatever else lies below its name; compares of a whole prefix cannot tell. */
import { type Compare, compare } from '../etcd/kv/compare.js';
import { op, type Op } from '../etcd/kv/op.js';
import type { OpResult } from '../etcd/kv/kv.js';
import { prefixEnd } from '../util/bytes.js';
import { isTicket } from './line-keys.js';
import { type LineRead, readLine, reservedBelow } from './read-line.js';
import type { TicketRequest } from './take.js';

/** So many groups of other keys are told apart, since etcd takes 128 compares; beyond, any write below the name counts. */
const MOST_GROUPS = 50;
/** How often the last to leave looks again when others write between its look and its removal. */
const MOST_TRIES = 10;
const SLASH = 0x2f;

/**
 * Compares that hold only while nobody has joined the line of `name` since it was read; undefined: somebody is in line.
 * Writes further down, and to keys without a lease that were there, do not end them.
 */
export function nobodyIn({ kvs, revision }: LineRead, name: string): readonly Compare[] | undefined {
  if (kvs.some((kv) => isTicket(kv, name))) return undefined;
  const prefix = Buffer.from(`${name}/`);
  const whole = [compare.modRevision({ prefix }, '<', revision + 1n)];
  const guards: Compare[] = [];
  let start: Uint8Array = prefix;
  const unwrittenUntil = (end: Uint8Array): void => {
    if (Buffer.compare(start, end) < 0) guards.push(compare.modRevision({ end, start }, '<', revision + 1n));
  };
  let groups = 0;
  const below = kvs
    .map(({ keyBytes }) => keyBytes)
    .filter((key) => Buffer.compare(key.subarray(0, prefix.length), prefix) === 0);
  // What others keep below was not read, and does not count.
  const reserved = reservedBelow(name).map((key) => Buffer.from(key));
  for (const keyBytes of [...below, ...reserved].sort((a, b) => Buffer.compare(a, b))) {
    if (Buffer.compare(keyBytes, start) < 0) continue;
    if (++groups > MOST_GROUPS) return whole;
    const slash = keyBytes.indexOf(SLASH, prefix.length);
    const group = slash < 0 ? keyBytes : keyBytes.subarray(0, slash + 1);
    unwrittenUntil(group);
    // This one key, which may get a lease; or all that is further down.
    if (slash < 0 && !Buffer.from(keyBytes).includes('.~', prefix.length))
      guards.push(compare.lease(keyBytes, '=', 0n));
    start = slash < 0 ? Buffer.concat([keyBytes, Buffer.of(0)]) : prefixEnd(group);
  }
  unwrittenUntil(prefixEnd(prefix));
  return guards;
}

/** What a ticket that leaves reads of its line, for `wasLast`. The newest keys are most likely tickets. */
export function lookBack({ name }: TicketRequest): Op {
  return op.get({ prefix: `${name}/` }, { keysOnly: true, limit: 20, sort: { by: 'create', order: 'desc' } });
}

/** Whether a ticket that left may have been the last of its line, by what it then read. */
export function maybeLast({ name }: TicketRequest, looked: OpResult | undefined): boolean {
  return looked?.type === 'get' && !looked.kvs.some((kv) => isTicket(kv, name));
}

/** Does what the last of a line does, if nobody is in line. Safe to repeat. */
export async function tidyUp({ last = [], name, session }: TicketRequest): Promise<void> {
  const { kv } = session.client;
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const nobody = nobodyIn(await readLine(kv, { name }, { keysOnly: true }), name);
    if (nobody === undefined) return;
    const { succeeded } = await kv.txn({ if: nobody, then: last }, { idempotent: true });
    if (succeeded) return;
  }
}
