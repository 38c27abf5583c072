/**
 * One run of a mirror, in stretches: each begins with what the target says and where the source is, copies what is left to be
 * copied, and follows; until somebody else has written to the target, or what follows is not there any more.
 */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { isHistoryGone } from '../../errors/transient.js';
import { services } from '../../proto/services.js';
import { sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { toText } from '../../util/bytes.js';
import { chance } from '../../util/chance.js';
import { tell } from '../../util/channels.js';
import type { Kv } from '../kv/kv.js';
import type { History, Moment } from '../transport/history.js';
import type { Link } from '../transport/link.js';
import { untilAnswered } from '../transport/until-answered.js';
import { Watcher } from '../watch/watch.js';
import type { Watches } from '../watch/watch-stream.js';
import { rangeOf, type Side } from './both-sides.js';
import { copy } from './copy.js';
import { byRevision, type Following, writeNothing, writeRevision } from './follow.js';
import type { MirrorTerms } from './mirror-options.js';
import type { Begun, MirrorTarget, Stored } from './mirror-target.js';
import type { Progress } from './progress.js';

/** What a mirror stands on: the source. */
export interface MirrorBase {
  readonly link: Link;
  readonly history: History;
  readonly kv: Kv;
  readonly watches: Watches;
}

/** What could not be gone on with, and why. */
interface Gone {
  readonly error: ConclaveError;
  readonly progress: Progress;
}

/** How long it waits when another mirror was faster, or it begins anew. */
const PAUSE = { baseMs: 20, maxMs: 2000 } as const;
/** Batches of events that are kept while the target is slow; beyond that they wait on the server. */
const BATCHES = 64;

export class MirrorRun {
  readonly #base: MirrorBase;
  readonly #terms: MirrorTerms;
  readonly #target: MirrorTarget;
  readonly #signal: AbortSignal;
  /** The cluster that this run has copied from. */
  #cluster: bigint | undefined;
  #gone: Gone | undefined;
  /** How often in a row it had to begin anew, and nothing was written. */
  #turns = 0;

  constructor(base: MirrorBase, terms: MirrorTerms, target: MirrorTarget, signal: AbortSignal) {
    this.#base = base;
    this.#terms = terms;
    this.#target = target;
    this.#signal = signal;
  }

  /** Goes on until the signal aborts. Rejects with its reason, or with what does not pass. */
  async goOn(): Promise<never> {
    for (;;) {
      await this.#stretch();
      await sleep(this.#base.link.clock, backoffMs(this.#turns++, PAUSE), this.#signal);
    }
  }

  /** Goes on from what is stored, until that is not what this stretch wrote any more. */
  async #stretch(): Promise<void> {
    // Before anything is read: what was read may be of the history that there was before.
    const { epoch } = this.#base.history;
    const stored = await this.#target.read(this.#signal);
    const source = await askMoment(this.#base, this.#terms, this.#signal);
    this.#checkSame(stored, source);
    const begun = await this.#begin(stored, source);
    if (begun === undefined) return;
    this.#cluster = source.clusterId;
    try {
      const at = begun.progress.phase === 'copying' ? await this.#copy(begun, epoch) : begun;
      if (at !== undefined) await this.#follow(at, epoch);
    } catch (error) {
      if (this.#signal.aborted || !isHistoryLost(error)) throw error;
      this.#gone = { error, progress: begun.progress };
    }
  }

  /**
   * Goes on from what is stored, as far as that can be gone on from, or begins a copy of what the source is now. Undefined:
   * somebody else has written meanwhile.
   */
  async #begin(stored: Stored, { clusterId, revision }: Moment): Promise<Begun | undefined> {
    const by = chance.id();
    const { progress } = stored;
    // What is written next is then told from what others wrote, and copies of earlier requests are not carried out.
    if (progress !== undefined && this.#isUsable(progress, { clusterId, revision }))
      return { ...stored, progress: { ...progress, by } };
    const prefix = toText(this.#terms.sourcePrefix);
    const next = { by, cluster: clusterId, copy: chance.id(), phase: 'copying', prefix, revision } as const;
    const begun = await this.#target.write(stored, next, [], this.#signal);
    if (begun !== undefined && progress !== undefined)
      tell('watch', () => ({ event: 'relisted', key: prefix, revision }));
    return begun;
  }

  /** Whether it can be gone on from, as far as is known. */
  #isUsable(progress: Progress, { clusterId, revision }: Moment): boolean {
    if (progress.cluster !== clusterId) return false;
    if ((progress.part?.revision ?? progress.revision) > revision) return false;
    if (this.#gone === undefined || progress.copy !== this.#gone.progress.copy) return true;
    // Another mirror may have been faster than what has compacted history.
    return this.#gone.error.code === 'COMPACTED' && progress.revision > this.#gone.progress.revision;
  }

  async #copy(from: Begun, epoch: number): Promise<Begun | undefined> {
    const { history, kv, link } = this.#base;
    const { maxTxnOps, sourcePrefix } = this.#terms;
    const source: Omit<Side, 'revision'> = { kv, prefix: sourcePrefix };
    const checkHistory = (): void => {
      if (history.epoch === epoch) return;
      throw new ConclaveError('HISTORY_REVERTED', 'history went back while it was copied');
    };
    const { clock } = link;
    const signal = this.#signal;
    return copy({ checkHistory, clock, maxTxnOps, signal, source, target: this.#target }, from);
  }

  async #follow(from: Begun, epoch: number): Promise<void> {
    const { kv, link, watches } = this.#base;
    const { maxTxnOps, sourcePrefix } = this.#terms;
    const signal = this.#signal;
    const following: Following = { maxTxnOps, prefix: sourcePrefix, signal, target: this.#target };
    await using watcher = new Watcher(
      { connection: link, continues: epoch, kv, stream: watches },
      { prefix: sourcePrefix },
      { bufferSize: BATCHES, progressNotify: true, signal, startRevision: from.progress.revision + 1n },
    );
    let at: Begun | undefined = from;
    for await (const { events, nextRevision } of watcher) {
      for (const [revision, those] of byRevision(events)) {
        at = await writeRevision(following, at, revision, those);
        if (at === undefined) return;
        this.#turns = 0;
      }
      if (events.length === 0) at = await writeNothing(following, at, nextRevision - 1n);
      if (at === undefined) return;
    }
  }

  /** Two mirrors of different sources must not take turns in undoing what the other has done. */
  #checkSame({ progress }: Stored, { clusterId }: Moment): void {
    if (progress === undefined) return;
    const key = toText(this.#target.key);
    const prefix = toText(this.#terms.sourcePrefix);
    const isOtherCluster = progress.cluster !== clusterId && this.#cluster === clusterId;
    if (progress.prefix === prefix && !isOtherCluster) return;
    const whose = isOtherCluster ? `cluster ${progress.cluster.toString(16)}` : `prefix ${progress.prefix}`;
    const text = `mirror of prefix ${prefix}: ${key} says that the target is a mirror of ${whose}; give each mirror its own progressKey, and a prefix of its own`;
    throw new ConclaveError('MISMATCH', text, { key });
  }
}

/** Where the source is now: which cluster, and at which revision. */
export async function askMoment(
  { link }: MirrorBase,
  { sourcePrefix }: MirrorTerms,
  signal: AbortSignal,
): Promise<Moment> {
  const { header } = await untilAnswered(link.clock, signal, () =>
    link.unary({
      key: toText(sourcePrefix),
      kind: 'read',
      request: { ...rangeOf(sourcePrefix), keysOnly: true, limit: 1n },
      rpc: services.KV.Range,
      signal,
      what: `ask where prefix ${JSON.stringify(toText(sourcePrefix))} is`,
    }),
  );
  return header ?? { clusterId: 0n, revision: 0n };
}

/** Whether what was to be read of the source is not there any more. */
function isHistoryLost(error: unknown): error is ConclaveError {
  return isHistoryGone(error) || hasCode(error, 'FUTURE_REVISION');
}
