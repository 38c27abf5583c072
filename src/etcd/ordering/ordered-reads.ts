/**
 * Reads that are never older than what the client has seen. A serializable read is answered by one member from what it has,
 * without a quorum, and that member may be behind: then the next one is asked, round after round.
 *
 * Not guaranteed: that an answer has what others wrote, which this client has not seen. For that, read without
 * `serializable`.
 */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { isTransient } from '../../errors/transient.js';
import { services } from '../../proto/services.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import type { Bytes } from '../../util/bytes.js';
import type { Compare } from '../kv/compare.js';
import { encodeKey, type KeyRange, keyOf, named } from '../kv/key-range.js';
import type { KeyValue } from '../kv/key-value.js';
import type { RangeResult } from '../kv/kv-results.js';
import type { Kv } from '../kv/kv.js';
import type { Op, RangeOptions, TxnResultOf, TxnSpec } from '../kv/op.js';
import type { CallOptions, MemberCallOptions } from '../transport/call.js';
import type { History } from '../transport/history.js';
import type { Link } from '../transport/link.js';

/** What ordered reads stand on. */
export interface OrderedBase {
  readonly link: Link;
  readonly history: History;
  readonly kv: Kv;
}

/** One read as it is made to a member, or to the one that the client chooses. */
type Ask<R> = (options: MemberCallOptions) => Promise<R>;

/** Of a read that nobody answers as new as it must be. */
interface Behind {
  readonly key: string | undefined;
  readonly what: string;
  readonly failure: ConclaveError | undefined;
  /** The greatest revision that was answered; 0n: none was. */
  readonly newest: bigint;
  readonly timeoutMs: number;
  /** What was seen already. */
  readonly wanted: bigint;
}

/** So long one member is asked before the next. */
const TRY_MS = 1000;
const PAUSE = { baseMs: 10, maxMs: 500 } as const;

/** Reads in order. Made by `client.orderedReads()`. */
export class OrderedReads {
  readonly #base: OrderedBase;

  /** @internal `client.orderedReads` is the way to one. */
  constructor(base: OrderedBase) {
    this.#base = base;
  }

  /** As `kv.get`, and never older than what the client has seen. Rejects as `range` does. */
  async get(
    key: Bytes,
    options: MemberCallOptions & Pick<RangeOptions, 'revision' | 'serializable' | 'keysOnly'> = {},
  ): Promise<KeyValue | undefined> {
    encodeKey(key);
    const { kvs } = await this.range(key, options);
    return kvs[0];
  }

  /**
   * As `kv.range`, and never older than what the client has seen: in answers of any kind, its writes and watches too. A
   * member that is behind is asked again, and the others too unless `endpoint` names it. Rejects as `kv.range`, and with
   * `DEADLINE_EXCEEDED` when no member that answers has caught up in time.
   */
  async range(range: KeyRange, options: RangeOptions & MemberCallOptions = {}): Promise<RangeResult> {
    const ask: Ask<RangeResult> = (limits) => this.#base.kv.range(range, { ...options, ...limits });
    // What a quorum answers is new.
    if (options.serializable !== true) return await ask(options);
    return await this.#inOrder(ask, options, { key: keyOf(range), what: `range ${named(range)}` });
  }

  /** As `kv.txn`, for one of which all steps are serializable reads: never older than what the client has seen. Rejects as `range`. */
  async txn<
    const Then extends readonly Op[] = readonly [],
    const Else extends readonly Op[] = readonly [],
    const If extends readonly Compare[] | undefined = undefined,
  >(spec: TxnSpec<Then, Else, If>, options: MemberCallOptions = {}): Promise<TxnResultOf<Then, Else, If>> {
    const ask: Ask<TxnResultOf<Then, Else, If>> = (limits) => this.#base.kv.txn(spec, limits);
    const steps: readonly Op[] = [...(spec.then ?? []), ...(spec.else ?? [])];
    const isLocal = steps.every(({ wire }) => wire.requestRange?.serializable === true);
    if (!isLocal || steps.length === 0) return await ask(options);
    return await this.#inOrder(ask, options, { key: undefined, what: 'txn' });
  }

  async #inOrder<R extends { readonly revision: bigint }>(
    ask: Ask<R>,
    options: MemberCallOptions & Pick<RangeOptions, 'revision'>,
    read: Pick<Behind, 'key' | 'what'>,
  ): Promise<R> {
    const { history, link } = this.#base;
    const { revision = 0n, signal, timeoutMs = link.timeoutMs } = options;
    const until = link.clock.now() + timeoutMs;
    const leftMs = (): number => Math.max(0, until - link.clock.now());
    // History may go back meanwhile: what was seen before counts no more then.
    let { epoch, revision: wanted } = history;
    let newest = 0n;
    let failure: ConclaveError | undefined;
    for (let rounds = 0; ; rounds++) {
      for (const endpoint of this.#members(options, rounds)) {
        try {
          const limitMs = endpoint === options.endpoint ? leftMs() : Math.min(leftMs(), TRY_MS);
          const answer = await ask({ endpoint, signal, timeoutMs: limitMs });
          if (history.epoch !== epoch) ({ epoch, revision: wanted } = history);
          // What was at a revision is the same everywhere.
          if (revision > 0n || answer.revision >= wanted) return answer;
          if (answer.revision > newest) newest = answer.revision;
        } catch (error) {
          const isBehind = hasCode(error, 'FUTURE_REVISION') && revision <= wanted;
          if (signal?.aborted === true || !(isBehind || isTransient(error))) throw error;
          failure = error;
        }
      }
      if (leftMs() > 0) {
        // Where history went back, no member ever gets there: only a quorum can tell.
        await this.#look({ signal, timeoutMs: Math.min(leftMs(), TRY_MS) });
        await sleep(link.clock, Math.min(leftMs(), backoffMs(rounds, PAUSE)), signal);
      }
      if (leftMs() <= 0) throw behind({ ...read, failure, newest, timeoutMs, wanted });
    }
  }

  /** Whom to ask: the one that is named; else at first whom the client chooses, and then each. */
  #members({ endpoint }: MemberCallOptions, rounds: number): readonly (string | undefined)[] {
    if (endpoint !== undefined) return [endpoint];
    const all = this.#base.link.endpoints.map(({ url }) => url);
    return rounds === 0 ? [undefined, ...all] : all;
  }

  /** Has the client hear of where history is, if anybody can tell. */
  async #look(limits: CallOptions): Promise<void> {
    const { link } = this.#base;
    try {
      await link.unary({
        ...limits,
        kind: 'read',
        request: { countOnly: true, key: Uint8Array.of(0) },
        rpc: services.KV.Range,
        what: 'ask where history is',
      });
    } catch (error) {
      limits.signal?.throwIfAborted();
      if (!hasCode(error)) throw error;
    }
  }
}

function behind({ failure, key, newest, timeoutMs, wanted, what }: Behind): ConclaveError {
  const how = newest === 0n ? 'no member answers' : `the newest that answers is at ${String(newest)}`;
  const text = `${what}: revision ${String(wanted)} was seen already, and ${how} (timeoutMs ${String(timeoutMs)})`;
  return new ConclaveError('DEADLINE_EXCEEDED', text, { cause: failure, key });
}
