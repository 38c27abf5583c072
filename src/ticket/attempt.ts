/**
 * One attempt to write keys: what it may have written, told from everything else by its own mark, and removed by that mark
 * alone, so that no removal of it, early or late, can hit what a newer attempt or a later life of the session has written.
 *
 * | state  | what the attempt's keys are         | ends with                                                        |
 * | ------ | ----------------------------------- | ---------------------------------------------------------------- |
 * | asking | maybe written, maybe later          | the answer: kept; given up, refused or unknown: removed, and over |
 * | kept   | its caller's                        | `withdraw`, or `over` once the caller has removed them           |
 * | over   | nobody's                            | nothing. If a copy of the request may still arrive, it is watched |
 *
 * Whether a copy may still arrive is only known when the request is settled, since until then it may be sent again: so
 * nobody asks before `over`, and nothing is over before that.
 */
import { hasCode } from '../errors/conclave-error.js';
import { provesNothingWritten } from '../errors/fates.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import type { AttemptNumber } from '../session/floor.js';
import type { Session } from '../session/session.js';
import { orAborted, waitAtMost } from '../util/abort.js';
import { removalsOf } from './removals.js';

/** How long a caller who gave up waits for the keys to be removed; the removal goes on after that. */
const CLEAN_UP_MS = 3000;

/** So many keys in one transaction: etcd takes 128 operations, those of a nested transaction and of the one around it together. */
const MOST_KEYS = 100;
/** And so many where others are removed in the same one. */
const MOST_AT_ONCE = 20;

/** What we say of an answer that we have: the request was refused. */
const VERDICTS = ['DEADLOCK', 'TICKET_LOST'] as const;

/** One key that an attempt may write. */
export interface Trace {
  readonly key: string;
  /** What this attempt, and no other ever, writes to `markKey`. @default the key's name is this attempt's alone */
  readonly mark?: string | Uint8Array | undefined;
  /** @default the key */
  readonly markKey?: string | undefined;
  /** What removes it. @default a deletion of the key */
  readonly removal?: readonly Op[] | undefined;
  /** What to do once it has been removed. Safe to repeat. */
  readonly tidy?: (() => Promise<void>) | undefined;
}

/** The record of one attempt. Its keys are written by one transaction. */
export class Attempt {
  readonly #session: Session;
  readonly #traces: readonly Trace[];
  #state: 'asking' | 'kept' | 'over' = 'asking';
  #number: AttemptNumber | undefined;

  constructor(session: Session, traces: readonly Trace[]) {
    this.#session = session;
    this.#traces = traces;
  }

  /**
   * Runs `write`, which sends the request with the guards that it is given. When it is given up, or nobody can tell what
   * came of it, removes what it wrote before it rejects; the removal goes on after 3 s, until it is confirmed or the session
   * ends, while the caller has its rejection. What it resolves with is the caller's, who ends it with `withdraw` or `over`.
   */
  async run<T>(signal: AbortSignal, write: (guards: readonly Compare[]) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    for (const { key } of this.#traces) await removalsOf(this.#session).none(key, signal);
    const number = this.#session.floor.next();
    this.#number = number;
    const writing = write(number.guards).finally(number.settled);
    const mayBeThere = writing.then(
      () => true,
      (error: unknown) => !hasCode(error, ...VERDICTS) && !provesNothingWritten(error),
    );
    try {
      const answer = await orAborted(writing, signal);
      this.#state = 'kept';
      return answer;
    } catch (error) {
      if (hasCode(error, 'LEASE_NOT_FOUND')) this.#session.leaseIsGone();
      await withinLimit(this.#session, this.#remove(mayBeThere));
      this.#session.throwIfEnded();
      throw error;
    }
  }

  /**
   * The request's conditions did not hold, so nothing was written: the attempt is over. Whether that is the answer; if not,
   * somebody had removed the session's floor, and another attempt may be made. Rejects as `AttemptNumber.isIntact` does.
   */
  async refused(signal: AbortSignal): Promise<boolean> {
    this.over();
    return (await this.#number?.isIntact(signal)) ?? true;
  }

  /** Removes what the attempt wrote, if it is still there as it was written. Rejects when the session ends before. */
  withdraw(): Promise<void> {
    return this.#remove(Promise.resolve(true));
  }

  /** What was written is nobody's any more, or nothing was: what arrives from now on is removed. Calling it again does nothing. */
  over(): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    if (this.#number === undefined) return;
    for (let from = 0; from < this.#traces.length; from += MOST_AT_ONCE) {
      this.#session.floor.end(this.#number.number, () => ({
        removals: this.#traces.slice(from, from + MOST_AT_ONCE).map(removalOf),
        tidy: this.#tidies ? (): Promise<void> => this.#tidy() : undefined,
      }));
    }
  }

  /** Removes what was written once it is known whether there may be any. */
  async #remove(mayBeThere: Promise<boolean>): Promise<void> {
    const keys = this.#traces.map(({ key }) => key);
    // Under way from now on, though the answer may take a while.
    const removal = removalsOf(this.#session).run(keys, async () => {
      if (await mayBeThere) await this.#removeOnce();
    });
    try {
      await removal.confirmed;
    } finally {
      this.over();
    }
  }

  async #removeOnce(): Promise<void> {
    const { kv } = this.#session.client;
    const specs = this.#traces.map(removalOf);
    for (let from = 0; from < specs.length; from += MOST_KEYS) {
      const [first, ...others] = specs.slice(from, from + MOST_KEYS);
      if (first === undefined) break;
      const spec = others.length === 0 ? first : { then: [first, ...others].map((each) => op.txn(each)) };
      await kv.txn(spec, { idempotent: true });
    }
    await this.#tidy();
  }

  get #tidies(): boolean {
    return this.#traces.some(({ tidy }) => tidy !== undefined);
  }

  async #tidy(): Promise<void> {
    for (const { tidy } of this.#traces) await tidy?.();
  }
}

/** Removes what one key holds, if this attempt wrote it. A late copy of it can hit nothing else. */
function removalOf({ key, mark, markKey = key, removal = [op.delete(key)] }: Trace): TxnSpec {
  const ours = mark === undefined ? compare.exists(key) : compare.value(markKey, '=', mark);
  return { if: [ours], then: removal };
}

/** Waits for a clean-up, but not longer than its limit, and whatever comes of it. */
export async function withinLimit(session: Session, cleanUp: Promise<unknown>): Promise<void> {
  await waitAtMost(session.client.clock, CLEAN_UP_MS, cleanUp);
}
