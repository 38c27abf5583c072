/**
 * Leader election.
 *
 * Keys: `name/<lease id in hex>`, one for each candidate's session, bound to its lease; the value is the caller's.
 * `name.~who/<lease id in hex>`, as long as that key: a small JSON of who the candidate is, for `inspect`.
 * Invariant: the leader is the key with the lowest create revision. Compatible with Go's `concurrency.Election` and
 * `etcdctl elect`. Candidates lead in the order of their create revisions.
 *
 * Not guaranteed: that a leader which ignores `signal` stops acting when its leadership is lost. Writes that must not
 * happen then go through `leadership.txn`, or carry `fencingToken` to a resource that compares it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import type { CallOptions } from '../etcd/transport/call.js';
import { encodeValue } from '../etcd/kv/key-range.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { Session } from '../session/session.js';
import { ANY_SESSION, type AnySession, onSession } from '../session/sessions.js';
import { withinLimit } from '../ticket/attempt.js';
import { gaveUp } from '../ticket/gave-up.js';
import { inspectNoted, type LineEntry, type LineReport } from '../ticket/inspect.js';
import { firstOnly } from '../ticket/line-audience.js';
import { inOrder } from '../ticket/line-keys.js';
import { ownerValue } from '../ticket/owner.js';
import { type Place, placeOf } from '../ticket/place.js';
import { readLine } from '../ticket/read-line.js';
import type { TicketRequest } from '../ticket/take.js';
import { takeIfFirst, takeTicket } from '../ticket/taking.js';
import { tellAcquire } from '../ticket/tell-acquire.js';
import { Ticket } from '../ticket/ticket.js';
import { limitWait, onAbort, sleep, WAIT_OPTIONS, type WaitOptions } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import type { Bytes } from '../util/bytes.js';
import { checkPlainName } from '../util/key-space.js';
import { checkFunction, checkInstance, checkLimits, checkOptions } from '../util/validate.js';
import { Leadership } from './leadership.js';
import { type LeaderInfo, observeLine } from './observe.js';

/** A key in the line of an election. */
export interface Candidate extends LineEntry {
  /** What it campaigned with or last proclaimed. */
  readonly value: Buffer;
}

/** In which runs the code that runs now leads; one for all: each such storage costs every promise of the process something, for ever. */
const leading = new AsyncLocalStorage<readonly unknown[]>();

/**
 * @example
 * const election = new Election(session, 'scheduler');
 * await using leadership = await election.campaign('worker-7');
 */
export class Election {
  readonly name: string;
  readonly #source: AnySession;

  /** Makes nothing in etcd. Throws TypeError for an empty name, one with a NUL or with a segment like `.queue`. */
  constructor(session: AnySession, name: string) {
    checkInstance(session, ANY_SESSION, "an election's session");
    this.name = checkPlainName(name, "an election's name");
    this.#source = session;
  }

  /**
   * Resolves once we lead. A session resumed by its lease id that led before leads on, with a greater token. Rejects with
   * the signal's reason, or `TIMEOUT`, after our candidacy has been removed; at once with `SESSION_LOST` when the session
   * dies and `TICKET_LOST` when our key is removed from outside.
   */
  async campaign(value: Bytes, options: WaitOptions = {}): Promise<Leadership> {
    return campaign(this.#source, this.name, value, options);
  }

  /** As `campaign`, but resolves with undefined, leaving nothing in etcd, when somebody else leads or stands already. */
  async tryCampaign(value: Bytes, options: WaitOptions = {}): Promise<Leadership | undefined> {
    checkOptions(options, WAIT_OPTIONS, 'tryCampaign');
    const bytes = encodeValue(value);
    return tellAcquire(this.#source, { kind: 'election', name: this.name }, () =>
      onSession(this.#source, options, `campaign for ${this.name}`, async (session, signal) => {
        const place = placeOf(session, this.name);
        return place.busy ? undefined : stand(place, bytes, takeIfFirst, signal);
      }),
    );
  }

  /** Who leads now; undefined when nobody does. A linearizable read. */
  async leader(): Promise<LeaderInfo | undefined> {
    const { kvs } = await readLine(this.#source.client.kv, { name: this.name });
    return inOrder(kvs, this.name)[0];
  }

  /**
   * Yields who leads now, then every change of the leader or its value, in order; `undefined` means that nobody leads.
   * It goes on through reconnects and compaction; it throws rather than end without a reason.
   */
  observe(
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncIterableIterator<LeaderInfo | undefined, undefined> {
    checkOptions(options, ['signal'], 'observe');
    checkLimits(options);
    return observeLine(this.#source.client, this.name, options.signal);
  }

  /**
   * Who leads and who stands, in order, with what value, since when and from where; candidates of other clients too, of
   * whom no more than key and value is known. One linearizable read.
   */
  async inspect(options: CallOptions = {}): Promise<LineReport<Candidate>> {
    checkOptions(options, WAIT_OPTIONS, 'inspect');
    const describe = (entry: LineEntry, kv: KeyValue): Candidate => ({ ...entry, value: kv.value });
    return await inspectNoted(this.#source.client, { describe, name: this.name, policy: firstOnly }, options);
  }

  /**
   * Campaigns, runs `lead` while we lead, and campaigns again whenever the candidacy or the leadership was lost, on a
   * session of its own when ours is lost too; it goes on trying while etcd cannot be reached. `lead` must end when
   * `leadership.signal` (also its second argument) aborts: the leadership was lost, or `options.signal` aborted; in the
   * latter case nobody else leads before `lead` has ended. Resolves with what `lead` returned once it ends and the leadership
   * was not lost; it is then resigned. Rejects with what `lead` threw before a loss, with the signal's reason, with
   * `TIMEOUT` when a candidacy took longer than `options.timeoutMs`, and with `CLOSED` when the session or client is
   * closed. A `lead` that resigns, or steps down, has lost nothing: what it then returns or throws ends the run. After a
   * loss it pauses, 50 ms at first and up to 2 s for as long as no leadership lasts longer than that.
   */
  async run<T>(
    value: Bytes,
    lead: (leadership: Leadership, stop: AbortSignal) => T | Promise<T>,
    options: WaitOptions = {},
  ): Promise<T> {
    checkFunction(lead, "an election's lead");
    checkOptions(options, WAIT_OPTIONS, 'run');
    encodeValue(value);
    checkLimits(options);
    if (this.#source instanceof Session) return this.#run(value, lead, options);
    const closing = new AbortController();
    const running = this.#run(
      value,
      (leadership, stop) =>
        leading.run([...(leading.getStore() ?? []), closing], () => lead(leadership, stop)),
      options,
      [closing.signal],
    );
    const stopListening = this.#source.beforeClose({
      end: () => {
        closing.abort(new ConclaveError('CLOSED', `lead ${this.name}: this Conclave was closed`));
        return running.catch(() => undefined);
      },
      isInside: () => leading.getStore()?.includes(closing) === true,
    });
    try {
      return await running;
    } finally {
      stopListening();
    }
  }

  async #run<T>(
    value: Bytes,
    lead: (leadership: Leadership, stop: AbortSignal) => T | Promise<T>,
    options: WaitOptions,
    stops: readonly AbortSignal[] = [],
  ): Promise<T> {
    const { client } = this.#source;
    using limit = limitWait(client.clock, { signal: options.signal }, `lead ${this.name}`, stops);
    const { signal } = limit;
    let source = this.#source;
    let own: Session | undefined;
    try {
      for (let setbacks = 0; ; setbacks++) {
        if (setbacks > 0) await sleep(client.clock, backoffMs(setbacks - 1, PAUSE), signal);
        signal.throwIfAborted();
        client.closed.throwIfAborted();
        let leadership: Leadership;
        try {
          if (source instanceof Session && source.state === 'lost') {
            const { label, ttlSeconds } = source;
            own = source = await Session.open(client, { label, signal, ttlSeconds });
          }
          leadership = await campaign(source, this.name, value, { signal, timeoutMs: options.timeoutMs });
        } catch (error) {
          signal.throwIfAborted();
          if (!isTransient(error) && !hasCode(error, ...TRY_AGAIN)) throw error;
          continue;
        }
        const wonAt = client.clock.now();
        const term = await oneTerm(leadership, lead, signal);
        if (term !== undefined) return term.result;
        if (client.clock.now() - wonAt > PAUSE.maxMs) setbacks = 0;
      }
    } finally {
      await own?.close().catch(() => undefined);
    }
  }
}

/** How long `run` waits after a loss, and after a candidacy that failed. */
const PAUSE = { baseMs: 50, maxMs: 2000 } as const;

/** After these, and what passes by itself, a candidacy is tried again. */
const TRY_AGAIN = ['SESSION_LOST', 'TICKET_LOST', 'LEASE_NOT_FOUND'] as const;

/** Runs `lead` for one leadership, and resigns. Undefined when it was lost meanwhile. */
async function oneTerm<T>(
  leadership: Leadership,
  lead: (leadership: Leadership, stop: AbortSignal) => T | Promise<T>,
  signal: AbortSignal,
): Promise<{ readonly result: T } | undefined> {
  await using won = leadership;
  const stopListening = onAbort(signal, (reason) => won.stepDown(reason));
  let result: T;
  try {
    result = await lead(won, won.signal);
  } catch (error) {
    signal.throwIfAborted();
    if (won.wasLost) return undefined;
    throw error;
  } finally {
    stopListening();
  }
  signal.throwIfAborted();
  return won.wasLost ? undefined : { result };
}

async function campaign(
  source: AnySession,
  name: string,
  value: Bytes,
  options: WaitOptions,
): Promise<Leadership> {
  checkOptions(options, WAIT_OPTIONS, 'campaign');
  const bytes = encodeValue(value);
  return tellAcquire(source, { kind: 'election', name }, () =>
    onSession(source, options, `campaign for ${name}`, (session, signal) =>
      stand<never>(placeOf(session, name), bytes, takeTicket, signal),
    ),
  );
}

/** Stands with the ticket that `take` gets; what it returns instead of one is passed on. */
async function stand<None>(
  place: Place,
  value: Uint8Array,
  take: (request: TicketRequest, signal: AbortSignal) => Promise<Ticket | None>,
  signal: AbortSignal,
): Promise<Leadership | None> {
  signal.throwIfAborted();
  const { name, session, suffix } = place;
  const endTurn = await place.enter(signal);
  try {
    // What a lock's task left for the next one is no candidacy. Taking a ticket waits for its removal.
    place
      .takeKept()
      ?.leave()
      .catch(() => undefined);
    const ticket = await take({ name, note: ownerValue(session), session, suffix, value }, signal);
    if (ticket instanceof Ticket) return await win(ticket, signal, endTurn);
    endTurn();
    return ticket;
  } catch (error) {
    endTurn();
    throw error;
  }
}

/** Waits until the ticket is first; leaves the line if that fails. */
async function win(ticket: Ticket, signal: AbortSignal, endTurn: () => void): Promise<Leadership> {
  try {
    const proof = ticket.firstAt ?? (await ticket.turn(firstOnly, signal));
    signal.throwIfAborted();
    return new Leadership({
      fencingToken: proof > ticket.modRevision ? proof : ticket.modRevision,
      lost: () => void ticket.leaveIfAlive().then(endTurn, endTurn),
      release: async () => {
        try {
          await ticket.leave();
        } finally {
          endTurn();
        }
      },
      ticket,
    });
  } catch (error) {
    const [told] = await Promise.all([gaveUp(error, ticket), withinLimit(ticket.session, ticket.leave())]);
    throw told;
  }
}
