/**
 * The target of a mirror. All that is written to it compares the key of the progress with what the same stretch of the same
 * run read or wrote before, and moves it on. So each step is done once, however often it is sent, and nothing is done on
 * what somebody else has written meanwhile, or what has come back from an older state of the target.
 */
import { passesByItself } from '../../errors/transient.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { toText } from '../../util/bytes.js';
import type { Clock } from '../../util/clock.js';
import { type Compare, compare } from '../kv/compare.js';
import type { CallOptions } from '../transport/call.js';
import type { KeyValue } from '../kv/key-value.js';
import type { Kv } from '../kv/kv.js';
import { op, type Op } from '../kv/op.js';
import { type Progress, progressText, readProgress } from './progress.js';

/** Where a mirror's progress is, and since which revision of the target. */
export interface Stored {
  readonly progress: Progress | undefined;
  /** What the key holds; undefined: it is missing. */
  readonly value: Buffer | undefined;
  readonly modRevision: bigint;
}

/** The same, of a mirror that has begun. */
export interface Begun extends Stored {
  readonly progress: Progress;
}

/** How long it waits where etcd has no space, or does not answer. */
const PAUSE = { maxMs: 5000 } as const;

export class MirrorTarget {
  readonly kv: Pick<Kv, 'range' | 'txn'>;
  readonly prefix: Uint8Array;
  readonly key: Uint8Array;
  readonly #clock: Clock;

  constructor(
    kv: Pick<Kv, 'range' | 'txn'>,
    clock: Clock,
    keys: { readonly prefix: Uint8Array; readonly progressKey: Uint8Array },
  ) {
    this.kv = kv;
    this.#clock = clock;
    this.prefix = keys.prefix;
    this.key = keys.progressKey;
  }

  /** The target's key for a key of the source without its prefix. */
  keyOf(suffix: Uint8Array): Buffer {
    return Buffer.concat([this.prefix, suffix]);
  }

  /** Whether it is the key of the progress, which is never copied and never deleted. */
  isOwn(key: Uint8Array): boolean {
    return Buffer.compare(key, this.key) === 0;
  }

  /** What is stored, and the revision of the target at which it was so. */
  async look(options: CallOptions): Promise<Stored & { readonly at: bigint }> {
    const { kvs, revision } = await this.kv.range(this.key, options);
    return { ...this.#stored(kvs[0]), at: revision };
  }

  /** As `look`, for as long as it takes. */
  read(signal: AbortSignal): Promise<Stored & { readonly at: bigint }> {
    return this.#goOn(signal, () => this.look({ signal }));
  }

  /**
   * Moves on from `from` to `next` with these steps, in one transaction. Resolves with what is stored then; undefined: it
   * was not at `from` any more, and nothing was written.
   */
  async write(
    from: Stored,
    next: Progress,
    steps: readonly Op[],
    signal: AbortSignal,
  ): Promise<Begun | undefined> {
    const value = Buffer.from(progressText(next));
    const spec = {
      else: [op.get(this.key)],
      if: this.#isAt(from),
      then: [op.put(this.key, value), ...steps],
    };
    const { responses, revision, succeeded } = await this.#goOn(signal, () =>
      this.kv.txn(spec, { idempotent: true, signal }),
    );
    if (succeeded) return { modRevision: revision, progress: next, value };
    const [found] = responses;
    const kv = found?.type === 'get' ? found.kvs[0] : undefined;
    // Nobody else writes this: an earlier try, whose answer was lost, has.
    return kv?.value.equals(value) === true
      ? { modRevision: kv.modRevision, progress: next, value }
      : undefined;
  }

  #isAt({ modRevision, value }: Stored): Compare[] {
    if (value === undefined) return [compare.missing(this.key)];
    // The value too: in another history of the target, the revision may be that of something else.
    return [compare.modRevision(this.key, '=', modRevision), compare.value(this.key, '=', value)];
  }

  #stored(kv: KeyValue | undefined): Stored {
    if (kv === undefined) return { modRevision: 0n, progress: undefined, value: undefined };
    const progress = readProgress(kv.string(), toText(this.key));
    return { modRevision: kv.modRevision, progress, value: kv.value };
  }

  /** Asks again for as long as nobody answers, or there is no space. */
  async #goOn<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures++) {
      try {
        return await ask();
      } catch (error) {
        if (signal.aborted || !passesByItself(error)) throw error;
        await sleep(this.#clock, backoffMs(failures, PAUSE), signal);
      }
    }
  }
}
