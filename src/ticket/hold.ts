/** What every holder gets: the token, the signal, the synchronous check, the guard, and an idempotent release. */
import type { InspectOptions } from 'node:util';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Compare } from '../etcd/kv/compare.js';
import type { CallOptions } from '../etcd/transport/call.js';
import type { TxnResult } from '../etcd/kv/kv.js';
import { op, type TxnSpec } from '../etcd/kv/op.js';
import { onAbort, orAborted } from '../util/abort.js';
import { begin, tell, type Trace } from '../util/channels.js';
import { ticketLost } from './line-audience.js';
import { notHeld, type Ticket } from './ticket.js';
import { asJson, asText, INSPECT } from '../util/shown.js';

/** What a hold is made of. */
export interface HoldTerms {
  readonly ticket: Ticket;
  /** The tickets in other lines that are held together with it. */
  readonly others?: readonly Ticket[];
  /** The revision at which the ticket was proven to be admitted. */
  readonly fencingToken: bigint;
  /** The compares that hold only while this very hold lasts. @default the ticket's */
  readonly guards?: readonly Compare[];
  /** Told when it was lost; gives back what is left of it in etcd. @default `release` */
  readonly lost?: (() => void) | undefined;
  /** Gives back what is held. Called once, or again after it failed. */
  readonly release: () => Promise<void>;
}

type State = 'held' | 'lost' | 'released';

/** A hold that lasts longer than this is watched, so that it ends at once when its key is removed from outside. */
const FOLLOW_AFTER_MS = 200;

/**
 * Something held: a lock, a leadership, a permit.
 *
 * Guaranteed: `signal` aborts, and `held` is false, before etcd can give it to somebody else because our lease ran out.
 * A write through `txn` commits only while this very hold lasts.
 * Not guaranteed: that work which ignores the signal stops, and that writes elsewhere, made without comparing
 * `fencingToken`, come in order.
 */
export class Hold implements AsyncDisposable {
  /** Our key in etcd. */
  readonly key: string;
  /** The create revision of our key: the place we had in line. */
  readonly createRevision: bigint;
  /** Strictly greater than that of every earlier hold of this name, whoever held it. */
  readonly fencingToken: bigint;
  protected readonly ticket: Ticket;
  readonly #others: readonly Ticket[];
  readonly #guards: readonly Compare[];
  /** The ticket's mark that those compare. */
  readonly #mark: bigint;
  readonly #release: () => Promise<void>;
  readonly #lost: (() => void) | undefined;
  /** Made when somebody asks for the signal: most holds end before. */
  #controller: AbortController | undefined;
  /** Why the hold ended; undefined while it lasts. */
  #reason: (() => unknown) | undefined;
  #stopSession: () => void = () => undefined;
  #stopFollowing: () => void = () => undefined;
  /** The last write to our key, by somebody else, after which we looked whether it is still ours. */
  #lookedAt: bigint | undefined;
  #state: State = 'held';
  readonly #telling: Trace | undefined;
  #releasing: Promise<void> | undefined;

  /** Throws why the session has ended, if it has: after a freeze, what proves the hold may be read before its deadline is noticed. */
  constructor(terms: HoldTerms) {
    const { ticket } = terms;
    ticket.session.throwIfEnded();
    this.ticket = ticket;
    this.#others = terms.others ?? [];
    this.key = ticket.key;
    this.createRevision = ticket.createRevision;
    this.fencingToken = terms.fencingToken;
    this.#guards = terms.guards ?? ticket.guards;
    this.#mark = ticket.mark;
    this.#release = terms.release;
    this.#lost = terms.lost;
    this.#telling = begin('hold', () => this.#told);
    const { clock } = ticket.session.client;
    const timer = clock.setTimer(FOLLOW_AFTER_MS, () => {
      if (this.#state !== 'held') return;
      const stopFollowing = this.#follow();
      // What is followed may be gone already.
      if (this.held) this.#stopFollowing = stopFollowing;
      else stopFollowing();
    });
    this.#stopFollowing = () => timer.cancel();
    // Last, since a session that has ended answers at once.
    this.#stopSession = onAbort(ticket.session.signal, (reason) => this.lost(reason));
  }

  /** Key, place and token, as decimal strings, and whether it is held. */
  toJSON(): Record<string, unknown> {
    return asJson(this.#shown);
  }

  /** @internal */
  [INSPECT](_depth: number, options: InspectOptions): string {
    return asText(this.constructor.name, this.#shown, options);
  }

  get #shown(): Readonly<Record<string, unknown>> {
    const { createRevision, fencingToken, held, key } = this;
    return { key, createRevision, fencingToken, held };
  }

  get #told(): Record<string, unknown> {
    const { fencingToken, key } = this;
    const { label, leaseId } = this.ticket.session;
    return { fencingToken, key, kind: this.constructor.name, label, leaseId, name: this.ticket.name };
  }

  /**
   * How many keys were ahead of ours when it stood in line; undefined when nobody looked.
   * @internal
   */
  get position(): number | undefined {
    return this.ticket.position;
  }

  /** Aborts when the hold ends: lost (with the reason) or released (code `NOT_HELD`). */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason());
    }
    return this.#controller.signal;
  }

  /** Whether it is still ours, by a synchronous look at the clock: right after a freeze, too. */
  get held(): boolean {
    return this.#state === 'held' && this.ticket.session.alive;
  }

  /** Whether it was lost. What was released, or became another hold by our own doing, was not. */
  get wasLost(): boolean {
    return !this.held && this.#state === 'lost';
  }

  /** The compares to put into the `if` of any transaction that must only commit while this hold lasts. */
  guard(): Compare[] {
    return [...this.#guards];
  }

  /**
   * Runs a transaction that commits only while this very hold lasts. Rejects with `NOT_HELD` when it does not: then
   * neither `then` nor `else` has run. Rejects with `UNKNOWN_OUTCOME` when the answer was lost.
   */
  async txn(spec: TxnSpec, options: CallOptions = {}): Promise<TxnResult> {
    if (!this.held) throw this.#noLongerHeld();
    const plain = (spec.if ?? []).length === 0;
    const steps = plain ? (spec.then ?? []) : [op.txn(spec)];
    const { looks, session } = this.ticket;
    const result = await session.client.kv.txn({ else: looks, if: this.#guards, then: steps }, options);
    if (!result.succeeded) {
      const loss = await orAborted(this.ticket.lossSince(this.#mark, result.responses), options.signal);
      if (loss !== undefined) this.lost(loss);
      throw this.#noLongerHeld();
    }
    const [inner] = result.responses;
    if (plain || inner?.type !== 'txn') return result;
    return { responses: inner.responses, revision: result.revision, succeeded: inner.succeeded };
  }

  /** Releases it, and never throws: what cannot be confirmed goes on being tried until the session ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => undefined);
  }

  /**
   * Gives it back. Calling again waits for the same release, or tries it again if it could not be confirmed. A release
   * after the session has ended does nothing in etcd: the lease decides, which may be resumed elsewhere.
   */
  protected release(): Promise<void> {
    if (this.#releasing !== undefined) return this.#releasing;
    if (!this.ticket.session.alive) return Promise.resolve();
    const { key } = this;
    this.#end('released', () => new ConclaveError('NOT_HELD', `${key} was released`, { key }));
    const releasing = this.#release();
    this.#releasing = releasing;
    releasing.catch(() => {
      this.#releasing = undefined;
    });
    return releasing;
  }

  /** What it held is another hold's now: releasing this one does nothing. */
  protected passedOn(): void {
    this.#releasing ??= Promise.resolve();
  }

  /** The hold was lost: whoever relies on it hears so now. */
  protected lost(reason: unknown): void {
    if (this.#state !== 'held') return;
    this.#end('lost', () => reason);
    tell('loss', () => ({ ...this.#told, error: reason }));
    // What is left of it in etcd would keep others waiting for nobody.
    if (this.#lost !== undefined) this.#lost();
    else void this.release().catch(() => undefined);
  }

  /** The hold is over for whoever relies on it; what it holds is given back by `release`. */
  protected ended(reason: unknown): void {
    this.#end('released', () => reason);
  }

  #end(state: State, reason: () => unknown): void {
    if (this.#state !== 'held') return;
    this.#state = state;
    this.#stopFollowing();
    this.#stopSession();
    this.#reason = reason;
    if (state === 'lost') this.#telling?.failed(reason(), { outcome: state });
    else this.#telling?.done({ outcome: state });
    this.#controller?.abort(reason());
  }

  #follow(): () => void {
    const stops = [this.ticket, ...this.#others].map((ticket) =>
      ticket.follow({
        changed: () => {
          if (ticket === this.ticket) this.#look();
        },
        gone: () => this.lost(ticketLost(ticket.key)),
      }),
    );
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Somebody may have written to our key: another life on our lease, or an operator. */
  #look(): void {
    const { touchedAt } = this.ticket;
    if (touchedAt === undefined || touchedAt === this.#lookedAt) return;
    this.#lookedAt = touchedAt;
    this.ticket.mustBeOurs().catch((error: unknown) => {
      if (hasCode(error, 'TICKET_LOST', 'SESSION_LOST')) this.lost(error);
    });
  }

  #noLongerHeld(): ConclaveError {
    const error = notHeld(this.key);
    const { reason } = this.signal as { readonly reason: unknown };
    return hasCode(reason)
      ? new ConclaveError('NOT_HELD', error.message, { cause: reason, key: this.key })
      : error;
  }
}
