/** A barrier held closed: the token, the signal, the guard, and a release. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { CallOptions } from '../etcd/transport/call.js';
import type { TxnResult } from '../etcd/kv/kv.js';
import { op, type TxnSpec } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import type { Session } from '../session/session.js';
import { notHeld } from '../ticket/ticket.js';
import { onAbort } from '../util/abort.js';
import type { IfHolderDies, Keys } from './closing.js';
import { follow } from './follow.js';

/** What a barrier's hold is made of. */
export interface BarrierHoldTerms {
  readonly client: Client;
  readonly session: Session | undefined;
  readonly keys: Keys;
  /** Below which the keys are, and nothing else. */
  readonly prefix: string;
  readonly mode: IfHolderDies;
  /** The revision at which the barrier was closed. */
  readonly revision: bigint;
  /** Called once a release is confirmed. */
  readonly onReleased: () => void;
}

/** A barrier held closed by us. */
export class BarrierHold implements AsyncDisposable {
  /** The key that keeps the barrier closed. */
  readonly key: string;
  /** The revision at which we closed it: greater than that of every earlier hold of this barrier. */
  readonly fencingToken: bigint;
  readonly #terms: BarrierHoldTerms;
  readonly #controller = new AbortController();
  readonly #stopListening: () => void;
  #state: 'held' | 'released' | 'lost' = 'held';
  #releasing: Promise<void> | undefined;
  /** Whether a try to release it may have done so, although its answer was lost. */
  #unsure = false;

  constructor(terms: BarrierHoldTerms) {
    this.#terms = terms;
    this.key = terms.keys.held;
    this.fencingToken = terms.revision;
    this.#stopListening = onAbort(this.#bound?.signal, (reason) => this.#end('lost', reason));
    void untilAnswered(terms.client.clock, this.signal, () => this.#follow()).catch(() => undefined); // It ended.
  }

  /**
   * Aborts when the hold ends: its session did (with the reason), it was released, or its keys were removed from outside
   * (code `NOT_HELD`).
   */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Whether it is still ours, by a synchronous look at the clock. */
  get held(): boolean {
    return this.#state === 'held' && (this.#bound?.alive ?? true);
  }

  /** The compares to put into the `if` of any transaction that must only commit while this hold lasts. */
  guard(): Compare[] {
    const { keys, mode, revision } = this.#terms;
    const held = compare.modRevision(keys.held, '=', revision);
    return mode === 'break' ? [held, compare.modRevision(keys.holder, '=', revision)] : [held];
  }

  /**
   * Runs a transaction that commits only while this very hold lasts. Rejects with `NOT_HELD` when it does not: then
   * neither `then` nor `else` has run. Rejects with `UNKNOWN_OUTCOME` when the answer was lost.
   */
  async txn(spec: TxnSpec, options: CallOptions = {}): Promise<TxnResult> {
    if (!this.held) throw notHeld(this.key);
    const result = await this.#terms.client.kv.txn({ if: this.guard(), then: [op.txn(spec)] }, options);
    const [inner] = result.responses;
    if (!result.succeeded || inner?.type !== 'txn') {
      this.#end('lost', notHeld(this.key));
      throw notHeld(this.key);
    }
    return { responses: inner.responses, revision: result.revision, succeeded: inner.succeeded };
  }

  /**
   * Opens the barrier, if it is still held by this very hold. Resolves once that is confirmed; rejects when it cannot be
   * (`UNKNOWN_OUTCOME` when the answer was lost), and may then be called again, which finds out. Calling twice is safe:
   * calls at the same time share one release. After a loss it rejects with `NOT_HELD` and opens nothing: the barrier then
   * is what `ifHolderDies` said.
   */
  release(): Promise<void> {
    this.#releasing ??= this.#release().catch((error: unknown) => {
      this.#releasing = undefined;
      throw error;
    });
    return this.#releasing;
  }

  /** Releases it, and never throws: what cannot be confirmed ends as `ifHolderDies` said. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => undefined);
  }

  /** The session that the hold ends with; a barrier that stays closed without its holder has none. */
  get #bound(): Session | undefined {
    return this.#terms.mode === 'stay' ? undefined : this.#terms.session;
  }

  async #release(): Promise<void> {
    const { client, keys } = this.#terms;
    const ended = this.#state === 'lost' || this.#bound?.alive === false;
    if (ended && !this.#unsure) throw this.#lost();
    // Nothing may be believed to be held once the removal is on its way.
    this.#end('released', new ConclaveError('NOT_HELD', `${this.key} was released`, { key: this.key }));
    const spec = {
      if: this.guard(),
      then: [op.delete(keys.held), op.delete(keys.holder)],
      else: [op.get(keys.held)],
    };
    const onRepeat = (): void => {
      this.#unsure = true;
    };
    const { succeeded, responses } = await client.kv
      .txn(spec, { idempotent: true, onRepeat })
      .catch((error: unknown) => {
        if (hasCode(error, 'UNKNOWN_OUTCOME')) this.#unsure = true;
        throw error;
      });
    const [held] = responses;
    const broken = held?.type === 'get' && held.kvs[0]?.modRevision === this.fencingToken;
    // A try whose answer was lost may have opened it; then it is not as it was.
    if (!succeeded && (broken || !this.#unsure)) throw this.#lost();
    this.#terms.onReleased();
  }

  /** Ends the hold when its keys are not as we wrote them. */
  async #follow(): Promise<void> {
    const { client, keys, mode, prefix, revision } = this.#terms;
    const ours = mode === 'break' ? [keys.held, keys.holder] : [keys.held];
    for await (const view of follow(client, prefix, { patient: true, signal: this.signal })) {
      if (ours.every((key) => view.keys.get(key)?.modRevision === revision)) continue;
      this.#end('lost', notHeld(this.key));
      return;
    }
  }

  #end(state: 'released' | 'lost', reason: unknown): void {
    if (this.#state !== 'held') return;
    this.#state = state;
    this.#stopListening();
    this.#controller.abort(reason);
  }

  #lost(): ConclaveError {
    const { reason } = this.signal as { readonly reason: unknown };
    const text = `${this.key} is no longer held by us, so it was not released`;
    return new ConclaveError('NOT_HELD', text, { cause: reason, key: this.key });
  }
}
