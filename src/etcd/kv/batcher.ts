/**
 * Sends calls on single keys that are made at the same time as the steps of one transaction: 128 calls for the price of
 * one. A call that is alone goes by itself, at once; while one is under way, those that follow are gathered until the
 * event loop has come round.
 *
 * Every call keeps its own limits and its own answer. Of a transaction that etcd refuses for good nothing has been applied:
 * its calls are then made one by one, and each gets the error that is its own. What passes was tried until there was no time
 * left, and is told to each; a lost answer leaves the outcome of each of its writes unknown, as if it had been sent alone.
 */
import { soon } from '../../util/clock.js';
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { provesNothingWritten } from '../../errors/fates.js';
import { isTransient } from '../../errors/transient.js';
import type { RequestOpInput, ResponseOp } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { orAborted } from '../../util/abort.js';
import { checkLimits } from '../../util/validate.js';
import type { CallKind, CallOptions } from '../transport/call.js';
import type { Link } from '../transport/link.js';
import type { Name } from './calls.js';

/** A call on one key that may be made as a step of a transaction. */
export interface Step<Result> {
  readonly key: Uint8Array;
  readonly request: RequestOpInput;
  /** Roughly what the request takes, in bytes. */
  readonly size: number;
  /** Calls of different groups do not share a transaction. */
  readonly group: string;
  /** How errors name it. */
  readonly name: Name;
  /** Makes the call by itself. */
  readonly alone: (options: CallOptions) => Promise<Result>;
  /** Reads the answer of the step. `revision` is the transaction's. */
  readonly answer: (response: ResponseOp, revision: bigint) => Result;
}

/** A call that waits to be sent, or for its answer. */
interface Waiting {
  readonly step: Step<unknown>;
  readonly options: CallOptions;
  /** When its caller's limit ends it; without one its time begins when it is sent. */
  readonly deadline: number | undefined;
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/** etcd's default limit of steps in a transaction. */
const MOST_STEPS = 128;
/** Well below etcd's default limit of 1.5 MiB for a request. */
const MOST_BYTES = 512 * 1024;

export class Batcher {
  readonly #connection: Link;
  readonly #kind: CallKind;
  /** etcd refuses two writes to one key in a transaction. */
  readonly #once: boolean;
  #waiting: Waiting[] = [];
  #underWay = 0;
  #mostSteps = MOST_STEPS;

  /** `kind` says what may be done when the answer to a transaction is lost; all its steps are of that kind. */
  constructor(connection: Link, kind: 'read' | 'write') {
    this.#connection = connection;
    this.#kind = kind;
    this.#once = kind === 'write';
  }

  /** Makes the call, alone or with others. Settles as the call by itself would. */
  run<Result>(step: Step<Result>, options: CallOptions): Promise<Result> {
    return this.#underWay > 0 ? this.#wait(step, options) : this.#first(step, options);
  }

  /** Makes a call that no other is beside. */
  async #first<Result>(step: Step<Result>, options: CallOptions): Promise<Result> {
    this.#underWay += 1;
    try {
      return await step.alone(options);
    } finally {
      this.#underWay -= 1;
    }
  }

  /** There may be many that wait: each is one object and one promise, unless it may give up by itself. */
  #wait<Result>(step: Step<Result>, options: CallOptions): Promise<Result> {
    checkLimits(options);
    const { closed, clock } = this.#connection;
    closed.throwIfAborted();
    const { signal, timeoutMs } = options;
    const deadline = timeoutMs === undefined ? undefined : clock.now() + timeoutMs;
    const waiting = new Promise<Result>((onResult, reject) => {
      const resolve = onResult as (result: unknown) => void;
      this.#waiting.push({ deadline, options, reject, resolve, step });
    });
    if (this.#waiting.length === 1) soon(this.#connection.clock, () => this.#flush());
    return signal === undefined ? waiting : orAborted(waiting, signal);
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const batch of this.#sort(waiting)) void this.#send(batch);
  }

  /** Shares the calls out among transactions, in their order. */
  #sort(waiting: readonly Waiting[]): Waiting[][] {
    const batches: Waiting[][] = [];
    const open = new Map<string, { calls: Waiting[]; bytes: number; keys: Set<string> }>();
    for (const call of waiting) {
      if (call.options.signal?.aborted === true) continue;
      const { group, key, size } = call.step;
      const kind = `${group} ${String(call.options.timeoutMs)}`;
      const name = this.#once
        ? Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')
        : '';
      let batch = open.get(kind);
      const full =
        batch === undefined ||
        batch.calls.length >= this.#mostSteps ||
        batch.bytes + size > MOST_BYTES ||
        (this.#once && batch.keys.has(name));
      if (batch === undefined || full) {
        batch = { bytes: 0, calls: [], keys: new Set() };
        open.set(kind, batch);
        batches.push(batch.calls);
      }
      batch.calls.push(call);
      batch.bytes += size;
      if (this.#once) batch.keys.add(name);
    }
    return batches;
  }

  async #send(calls: readonly Waiting[]): Promise<void> {
    const [first] = calls;
    if (first === undefined) return;
    this.#underWay += 1;
    try {
      if (calls.length === 1) await this.#alone(first);
      else await this.#together(calls, first);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #together(calls: readonly Waiting[], first: Waiting): Promise<void> {
    try {
      const reply = await this.#connection.unary({
        bytes: calls.reduce((sum, { step }) => sum + step.size, 0),
        kind: this.#kind,
        request: { success: calls.map(({ step }) => step.request) },
        rpc: services.KV.Txn,
        timeoutMs: this.#leftOf(first),
        what: `${String(calls.length)} calls sent together, the first of them ${first.step.name.what}`,
      });
      const revision = reply.header?.revision ?? 0n;
      for (const [at, { reject, resolve, step }] of calls.entries()) {
        const response = reply.responses[at];
        if (response === undefined) reject(this.#unanswered(step));
        else resolve(step.answer(response, revision));
      }
    } catch (error) {
      await this.#failed(calls, error);
    }
  }

  async #failed(calls: readonly Waiting[], error: unknown): Promise<void> {
    // A read that is refused in a way that might have written is as well asked for by itself.
    const refused =
      hasCode(error) &&
      error.etcd !== undefined &&
      !isTransient(error) &&
      !hasCode(error, 'NOT_ETCD', 'TLS_FAILED') &&
      (this.#kind === 'read' || provesNothingWritten(error));
    if (hasCode(error, 'TOO_MANY_OPS')) this.#mostSteps = Math.max(1, Math.floor(calls.length / 2));
    if (refused) {
      await Promise.all(calls.map((call) => this.#alone(call)));
      return;
    }
    for (const { reject, step } of calls) reject(hasCode(error) ? ofOne(error, step) : error);
  }

  /** A reply with too few answers, which is not etcd's. */
  #unanswered({ name: { key, what } }: Step<unknown>): ConclaveError {
    const code = this.#kind === 'read' ? 'ETCD' : 'UNKNOWN_OUTCOME';
    return new ConclaveError(code, `${what}: the reply to the calls it was sent with has no answer to it`, {
      key,
    });
  }

  #leftOf({ deadline }: Waiting): number | undefined {
    return deadline === undefined ? undefined : Math.max(0, deadline - this.#connection.clock.now());
  }

  async #alone(waiting: Waiting): Promise<void> {
    const { options, reject, resolve, step } = waiting;
    try {
      resolve(await step.alone({ signal: options.signal, timeoutMs: this.#leftOf(waiting) }));
    } catch (error) {
      reject(error);
    }
  }
}

/** The error of a transaction as that of one of its calls. */
function ofOne(error: ConclaveError, { name: { key, what } }: Step<unknown>): ConclaveError {
  if (error.code === 'CLOSED') return error;
  const { cause = error, code, etcd } = error;
  return new ConclaveError(code, `${what}: ${error.message}`, { cause, etcd, key });
}
