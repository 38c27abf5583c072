/**
 * Sends calls on single keys that are made at the same time as the steps of one transaction: 128 calls for the price of
 * one. A call that is alone goes by itself, at once; while one is under way, those that follow are gathered until the
 * event loop has come round.
 *
 * Every call keeps its own limits and its own answer. A transaction that etcd refuses has not been applied, so its calls
 * are then made one by one, and each gets the error that is its own. A lost answer leaves the outcome of each of its
 * writes unknown, as if it had been sent alone.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { RequestOpInput, ResponseOp } from '../proto/messages.gen.js';
import { services } from '../proto/services.js';
import { onAbort } from '../util/abort.js';
import { Deferred } from '../util/deferred.js';
import { checkLimits } from '../util/validate.js';
import type { CallKind, CallOptions } from './call.js';
import type { Connection } from './connection.js';

/** A call on one key that may be made as a step of a transaction. */
export interface Step<Result> {
  readonly key: Uint8Array;
  readonly request: RequestOpInput;
  /** Roughly what the request takes, in bytes. */
  readonly size: number;
  /** Calls of different groups do not share a transaction. */
  readonly group: string;
  /** The operation and its key, for error messages. */
  readonly what: string;
  /** Makes the call by itself. */
  readonly alone: (options: CallOptions) => Promise<Result>;
  /** Reads the answer of the step. `revision` is the transaction's. */
  readonly answer: (response: ResponseOp, revision: bigint) => Result;
}

/** A call that waits to be sent, or for its answer. */
interface Waiting {
  readonly step: Step<unknown>;
  readonly options: CallOptions;
  readonly timeoutMs: number;
  readonly deadline: number;
  readonly turn: Deferred<unknown>;
}

/** etcd's default limit of steps in a transaction. */
const MOST_STEPS = 128;
/** Well below etcd's default limit of 1.5 MiB for a request. */
const MOST_BYTES = 512 * 1024;
/** After these, trying again one by one would be no better. */
const NO_ANSWER = ['UNKNOWN_OUTCOME', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'TLS_FAILED'] as const;

export class Batcher {
  readonly #connection: Connection;
  readonly #kind: CallKind;
  /** etcd refuses two writes to one key in a transaction. */
  readonly #once: boolean;
  #waiting: Waiting[] = [];
  #underWay = 0;
  #mostSteps = MOST_STEPS;

  /** `kind` says what may be done when the answer to a transaction is lost; all its steps are of that kind. */
  constructor(connection: Connection, kind: 'read' | 'write') {
    this.#connection = connection;
    this.#kind = kind;
    this.#once = kind === 'write';
  }

  /** Makes the call, alone or with others. Settles as the call by itself would. */
  async run<Result>(step: Step<Result>, options: CallOptions): Promise<Result> {
    if (this.#underWay > 0) return this.#wait(step, options);
    this.#underWay += 1;
    try {
      return await step.alone(options);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #wait<Result>(step: Step<Result>, options: CallOptions): Promise<Result> {
    checkLimits(options);
    const { closed, clock, timeoutMs: usual } = this.#connection;
    closed.throwIfAborted();
    const { signal, timeoutMs = usual } = options;
    const turn = new Deferred<Result>();
    const stopListening = onAbort(signal, (reason) => turn.reject(reason));
    const waiting = { deadline: clock.now() + timeoutMs, options, step, timeoutMs, turn };
    this.#waiting.push(waiting as Waiting);
    if (this.#waiting.length === 1) setImmediate(() => this.#flush());
    try {
      return await turn.promise;
    } finally {
      stopListening();
    }
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
      const kind = `${group} ${String(call.timeoutMs)}`;
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
        kind: this.#kind,
        request: { success: calls.map(({ step }) => step.request) },
        rpc: services.KV.Txn,
        timeoutMs: Math.max(0, first.deadline - this.#connection.clock.now()),
        what: `${String(calls.length)} calls sent together, the first of them ${first.step.what}`,
      });
      const revision = reply.header?.revision ?? 0n;
      for (const [at, { step, turn }] of calls.entries()) {
        const response = reply.responses[at];
        if (response !== undefined) turn.resolve(step.answer(response, revision));
      }
    } catch (error) {
      await this.#failed(calls, error);
    }
  }

  async #failed(calls: readonly Waiting[], error: unknown): Promise<void> {
    const refused = hasCode(error) && error.etcd !== undefined && !hasCode(error, ...NO_ANSWER);
    if (hasCode(error, 'TOO_MANY_OPS')) this.#mostSteps = Math.max(1, Math.floor(calls.length / 2));
    if (refused) {
      await Promise.all(calls.map((call) => this.#alone(call)));
      return;
    }
    for (const { step, turn } of calls) turn.reject(hasCode(error) ? ofOne(error, step) : error);
  }

  async #alone({ step, options, turn, deadline }: Waiting): Promise<void> {
    const timeoutMs = Math.max(0, deadline - this.#connection.clock.now());
    try {
      turn.resolve(await step.alone({ signal: options.signal, timeoutMs }));
    } catch (error) {
      turn.reject(error);
    }
  }
}

/** The error of a transaction as that of one of its calls. */
function ofOne(error: ConclaveError, { what }: Step<unknown>): ConclaveError {
  if (error.code === 'CLOSED') return error;
  return new ConclaveError(error.code, `${what}: ${error.message}`, { cause: error, etcd: error.etcd });
}
