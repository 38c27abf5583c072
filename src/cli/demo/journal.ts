import { ConclaveError } from '../../errors/conclave-error.js';
import { limitWait } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import { onAbort } from '../../util/abort.js';
import type { Report } from './protocol.js';
import type { Acknowledged, LateWrite, LedTerm, Loss } from './verdict.js';

/** What a worker is doing, as far as the supervisor can tell. */
export type WorkerState = 'starting' | 'waits' | 'leads' | 'killed' | 'frozen';

/** A term as its records show it. */
export interface Term {
  readonly worker: string;
  readonly token: bigint;
  /** When its first record was seen, by the client's clock. */
  readonly since: number;
  records: number;
  /** How it came about, and how long nobody had written. */
  after?: { readonly loss: Loss; readonly ms: number };
}

/** What the supervisor knows: from the workers' reports, from `observe`, and from a watch on the records. */
export class Journal {
  readonly acknowledged: Acknowledged[] = [];
  readonly led: LedTerm[] = [];
  readonly late: LateWrite[] = [];
  /** The jobs that etcd confirmed. */
  readonly pushed: string[] = [];
  /** The workers that lead no more. */
  readonly resting = new Set<string>();
  readonly leaseIds = new Set<bigint>();
  /** In the order of their first records. */
  readonly terms: Term[] = [];
  readonly states = new Map<string, WorkerState>();
  readonly handoverMs: Partial<Record<Loss, number>> = {};
  /** Who leads, as `observe` says; undefined: nobody. */
  leader: string | undefined;
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The term that wrote last. */
  get term(): Term | undefined {
    return this.terms.at(-1);
  }

  /** Takes what a worker reports. */
  reported(worker: string, report: Report): void {
    if (report.type === 'stands') {
      this.leaseIds.add(report.leaseId);
      this.states.set(worker, 'waits');
    } else if (report.type === 'leads') {
      this.led.push({ from: report.at, token: report.token, worker });
      this.states.set(worker, 'leads');
    } else if (report.type === 'wrote') {
      this.acknowledged.push(report);
    } else if (report.type === 'pushed') {
      this.pushed.push(report.id);
    } else if (report.type === 'rests') {
      this.resting.add(worker);
    } else if (report.type === 'late') {
      this.late.push(report);
    } else if (report.type === 'ended') {
      this.states.set(worker, 'waits');
    }
    this.changed();
  }

  /** Takes a record that the watch has seen. Resolves nothing; says whether it is the first of a new term. */
  recordSeen(worker: string, token: bigint): boolean {
    const known = this.terms.find((term) => term.token === token);
    if (known !== undefined) known.records += 1;
    else this.terms.push({ records: 1, since: this.#clock.now(), token, worker });
    this.changed();
    return known === undefined;
  }

  /** Wakes those who wait for a fact. */
  changed(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Resolves with the fact once it is there. Rejects with the signal's reason, or `TIMEOUT` naming what was waited for. */
  async until<T>(
    fact: () => T | undefined,
    limits: { readonly what: string; readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<T> {
    using limit = limitWait(this.#clock, limits, limits.what);
    const found = new Deferred<T>();
    const look = (): void => {
      const value = fact();
      if (value !== undefined) found.resolve(value);
    };
    const stop = onAbort(limit.signal, (reason) => found.reject(reason));
    this.#waiting.add(look);
    try {
      look();
      return await found.promise;
    } finally {
      this.#waiting.delete(look);
      stop();
    }
  }
}

/** Whether a wait of the journal ran out of time. */
export function ranOut(error: unknown): error is ConclaveError {
  return error instanceof ConclaveError && error.code === 'TIMEOUT';
}
