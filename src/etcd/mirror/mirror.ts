/**
 * Keeps a copy of a prefix in another cluster, namespace or prefix: copies it at one revision, then does there what a watch
 * tells, each revision of the source as one transaction.
 *
 * A key of the target, `.conclave/mirror/<prefix>`, says how far it has come. Invariant: every transaction that writes to
 * the target compares that key with what it was, and moves it on. So a mirror may be stopped anywhere, its requests sent
 * twice or arrive late, and others run beside it: each step is done once. Whoever begins goes on from what the key says.
 *
 * | stored    | reads                                     | ends with                                                |
 * | --------- | ----------------------------------------- | -------------------------------------------------------- |
 * | nothing   | the source's revision                     | copying                                                  |
 * | copying   | both sides, in the order of the keys      | following; copying anew where history is gone            |
 * | following | a watch, from the next revision on        | copying anew where history is gone                       |
 *
 * Not guaranteed: that nobody else writes to the target. Leases, and the revisions of keys: they are the source's own. That
 * a history which has gone back, and has grown past what the mirror had seen before it looks, is noticed.
 */
import { limitWait } from '../../util/abort.js';
import { toText } from '../../util/bytes.js';
import { inJson } from '../../util/shown.js';
import { checkCount, checkLimits, checkOptions } from '../../util/validate.js';
import type { CallOptions } from '../transport/call.js';
import type {
  MirrorProgress,
  MirrorReport,
  MirrorRunOptions,
  MirrorTerms,
  MirrorVerifyOptions,
} from './mirror-options.js';
import { askMoment, type MirrorBase, MirrorRun } from './mirror-run.js';
import { MirrorTarget } from './mirror-target.js';
import { verify } from './verify.js';

/** A mirror. Made by `client.mirror(range, options)`. */
export class Mirror {
  readonly #base: MirrorBase;
  readonly #terms: MirrorTerms;
  readonly #target: MirrorTarget;
  readonly #what: string;

  /** @internal `client.mirror` is the way to one. */
  constructor(base: MirrorBase, terms: MirrorTerms) {
    this.#base = base;
    this.#terms = terms;
    this.#target = new MirrorTarget(terms.to.kv, base.link.clock, terms);
    this.#what = `mirror of prefix ${JSON.stringify(toText(terms.sourcePrefix))}`;
  }

  /**
   * Copies and follows, for as long as nothing ends it: begins where the target says that it had got to, and copies anew, at
   * one revision, when the source has forgotten what follows, or is another one. Waits for as long as nobody answers, or the
   * target has no space. Several may run at once, here or elsewhere: each step is done by one of them.
   *
   * Rejects with the signal's reason, `CLOSED` when one of the clients is closed, `MISMATCH` when the target's progress is
   * of another mirror, and what does not pass, such as `PERMISSION_DENIED`. What is written then stays, and can be gone on
   * with. A copy, or a revision with more changes than a transaction takes, may be half done then.
   */
  async run(options: MirrorRunOptions = {}): Promise<never> {
    checkOptions(options, ['signal'], 'run');
    checkLimits(options);
    options.signal?.throwIfAborted();
    using limit = this.#limit(options);
    const run = new MirrorRun(this.#base, this.#terms, this.#target, limit.signal);
    try {
      return await run.goOn();
    } catch (error) {
      limit.signal.throwIfAborted();
      throw error;
    }
  }

  /** How far it has come, whoever runs it; undefined: nothing was copied yet. Rejects as calls do, and with `MISMATCH`. */
  async progress(options: CallOptions = {}): Promise<MirrorProgress | undefined> {
    checkOptions(options, ['timeoutMs', 'signal'], 'progress');
    const { progress } = await this.#target.look(options);
    if (progress === undefined) return undefined;
    const { part, phase, revision } = progress;
    return inJson({ isWithinRevision: part !== undefined, phase, revision });
  }

  /**
   * Compares both sides: the source at the revision that the target has reached, and the target as it was then, whoever runs
   * the mirror, and while it runs. Waits while nothing was copied yet, or a copy is under way; `timeoutMs` has no default.
   *
   * Rejects as calls do, with `MISMATCH`, with `TIMEOUT`, and with `COMPACTED` if the source has forgotten that revision and
   * the target is not what the source is now: then the mirror is behind.
   */
  async verify(options: MirrorVerifyOptions = {}): Promise<MirrorReport> {
    checkOptions(options, ['limit', 'timeoutMs', 'signal'], 'verify');
    const limit = checkCount(options.limit ?? 100, 'limit', 0);
    checkLimits(options);
    options.signal?.throwIfAborted();
    using wait = this.#limit(options);
    const { signal } = wait;
    return await verify({
      clock: this.#base.link.clock,
      limit,
      signal,
      source: { kv: this.#base.kv, prefix: this.#terms.sourcePrefix },
      sourceRevision: async () => (await askMoment(this.#base, this.#terms, signal)).revision,
      target: this.#target,
    });
  }

  #limit(options: CallOptions): ReturnType<typeof limitWait> {
    const { clock, closed } = this.#base.link;
    return limitWait(clock, options, this.#what, [closed, this.#terms.to.closed]);
  }
}
