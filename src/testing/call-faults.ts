import { type FactOptions, type Facts } from './facts.js';
import { type LateCopies } from './late-copies.js';

/**
 * What is done to a call:
 * - `dropReply`: the request passes, the server carries it out and answers in full, and the answer is lost. On a stream
 *   that the client keeps open, "in full" is the next message.
 * - `dropRequest`: the request never reaches the server.
 * - `holdRequest`, `holdReply`: it waits, and all that follows on the same stream, until `release()`. Streams that are
 *   already open are held too, from their next message on.
 * - `fail`: the server is not asked; the client gets `status`.
 */
export type CallAction = 'dropReply' | 'dropRequest' | 'holdRequest' | 'holdReply' | 'fail';

/**
 * How the client learns that its call is lost: its connection is reset (`cut`), its stream alone is reset with
 * INTERNAL_ERROR (`reset`), or not at all (`silence`): the connection stays, and its stream says nothing more.
 */
export type CallLoss = 'cut' | 'reset' | 'silence';

/** What a fault applies to, and how. */
export interface CallFaultOptions {
  /** For `dropReply` and `dropRequest`. @default 'cut' */
  readonly then?: CallLoss | undefined;
  /** After this many calls the fault is over. @default 1; for `holdRequest` and `holdReply` no limit */
  readonly times?: number | undefined;
  /** Only messages for which this is true: of the request, or of the reply for `holdReply`. Given as protobuf bytes. */
  readonly where?: ((message: Buffer) => boolean) | undefined;
  /** For `fail`: the gRPC status code and message. @default UNAVAILABLE (14) */
  readonly status?: { readonly code: number; readonly message: string } | undefined;
}

/** A fault that was set on calls. */
export class CallFault {
  /** The rpc it applies to, as in `/etcdserverpb.KV/Txn`; `*` for every one. */
  readonly path: string;
  readonly action: CallAction;
  readonly then: CallLoss;
  readonly status: { readonly code: number; readonly message: string };
  readonly #facts: Facts;
  readonly #where: ((message: Buffer) => boolean) | undefined;
  readonly #held = new Set<() => void>();
  #left: number;
  #hits = 0;

  constructor(path: string, action: CallAction, options: CallFaultOptions & { readonly facts: Facts }) {
    const holds = action === 'holdRequest' || action === 'holdReply';
    this.path = path;
    this.action = action;
    this.then = options.then ?? 'cut';
    this.status = options.status ?? { code: 14, message: 'refused by FaultProxy' };
    this.#facts = options.facts;
    this.#where = options.where;
    this.#left = options.times ?? (holds ? Infinity : 1);
  }

  /** How many calls it has struck: for `dropReply`, how many answers of the server are lost by now. */
  get hits(): number {
    return this.#hits;
  }

  /** Resolves when it has struck `times` calls; rejects when it has not in 10 s or `timeoutMs`. */
  async hit(times = 1, options: FactOptions = {}): Promise<void> {
    const what = `${this.action} of ${this.path} has struck ${times} times (${this.#hits} by now)`;
    await this.#facts.waitFor(() => this.#hits >= times, { what, ...options });
  }

  /** Ends the fault; what it holds goes on its way, in order. */
  release(): void {
    this.#left = 0;
    const held = [...this.#held];
    this.#held.clear();
    for (const go of held) go();
  }

  /** As `release`. */
  [Symbol.dispose](): void {
    this.release();
  }

  /** Whether it applies to this message; then the call counts as taken. `message` is absent for headers and ends. */
  takes(path: string, message: Buffer | undefined): boolean {
    if (this.#left <= 0 || (this.path !== '*' && this.path !== path)) return false;
    if (this.#where !== undefined && (message === undefined || !this.#where(message))) return false;
    this.#left--;
    return true;
  }

  /** It has done to a call what it is for. */
  strike(): void {
    this.#hits++;
    this.#facts.changed();
  }

  /** Calls `go` on release. */
  hold(go: () => void): void {
    this.#held.add(go);
    this.strike();
  }
}

/** What has passed, and what is to be done to what comes. */
export class CallBook {
  readonly requests = new Map<string, number>();
  readonly replies = new Map<string, number>();
  /** Takes requests that are to arrive late. */
  late: LateCopies | undefined;
  readonly #facts: Facts;
  readonly #faults: CallFault[] = [];

  constructor(facts: Facts) {
    this.#facts = facts;
  }

  add(path: string, action: CallAction, options: CallFaultOptions): CallFault {
    const fault = new CallFault(path, action, { ...options, facts: this.#facts });
    this.#faults.push(fault);
    return fault;
  }

  /** The first fault that takes this request or part of a reply, in the order they were set. */
  match(side: 'request' | 'reply', path: string, message?: Buffer): CallFault | undefined {
    return this.#faults.find(
      (fault) => (fault.action === 'holdReply') === (side === 'reply') && fault.takes(path, message),
    );
  }

  /** One more message has been handed on. */
  count(side: 'request' | 'reply', path: string): void {
    const passed = side === 'request' ? this.requests : this.replies;
    passed.set(path, (passed.get(path) ?? 0) + 1);
    this.#facts.changed();
  }

  releaseAll(): void {
    for (const fault of this.#faults.splice(0)) fault.release();
    this.late?.stop();
  }
}
