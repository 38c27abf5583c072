/**
 * What the workers of one client know of a queue: one ordered watch over its few control keys, shared by all of them.
 * A batch of pushed jobs is one change here, however many jobs it has, so following a queue costs little.
 */
import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import { type Compare, compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { untilAnswered } from '../../etcd/transport/until-answered.js';
import type { WatchEvent } from '../../etcd/watch/watch-event.js';
import { readOwner } from '../../ticket/owner.js';
import type { Timer } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import type { QueueKeys } from './keys.js';
import { isPaused } from './pause.js';
import { type Appended, decodeAppended, decodeTail, firstNumber } from './numbering.js';
import { decodeReturned, type Returned } from './returned.js';
import { chance } from '../../util/chance.js';

/** What has changed. */
export type ControlEvent =
  /** Everything may have: the keys were read anew. `reverted`: what was known is of a history that is no more. */
  | { readonly what: 'all'; readonly reverted: boolean }
  /**
   * Jobs of this priority were appended, with the number `first` and greater ones, all below `tail`. `first` may be
   * below numbers that were announced before.
   */
  | {
      readonly what: 'appended';
      readonly priority: number;
      readonly first: number;
      readonly tail: number;
    }
  /** These jobs are back at their places. */
  | { readonly what: 'back'; readonly returned: readonly Returned[] }
  /** A job was delayed until `dueMs`, by the wall clock. */
  | { readonly what: 'due'; readonly dueMs: number }
  /** The queue was paused or resumed. */
  | { readonly what: 'paused' }
  /** The scheduler's key was written or deleted, at this revision. */
  | { readonly what: 'scheduler'; readonly revision: bigint }
  /** This worker has left, or its session has ended. */
  | { readonly what: 'left'; readonly member: string }
  /** The keys cannot be followed; nothing more comes. */
  | { readonly what: 'failed'; readonly error: unknown };

/** The client that appends the delayed jobs that are due. */
export interface Scheduler {
  readonly clientId: string;
  readonly modRevision: bigint;
}

/** How long an unused watch is kept, since opening one costs a watch and a read. */
const LINGER_MS = 3000;

/** What is known of the numbers of a priority: where this layout's begin, the greatest seen, how often it was appended to. */
interface Sequence {
  readonly base: number;
  readonly last: number;
  readonly version: number;
}

const NO_SEQUENCE: Sequence = { base: 0, last: -1, version: 0 };

export class ControlWatch {
  readonly client: Client;
  readonly layout: QueueKeys;
  readonly #sequences = new Map<number, Sequence>();
  readonly #workers = new Set<string>();
  readonly #listeners = new Set<(change: ControlEvent) => void>();
  readonly #onClosed: () => void;
  #sorted: readonly string[] | undefined;
  #readAt = 0n;
  /** All that happened up to this revision is known. */
  #seenAt = 0n;
  /** For each priority, the append of this client that was told before the watch has brought it. */
  readonly #told = new Map<number, bigint>();
  #pause: KeyValue | undefined;
  #scheduler: Scheduler | undefined;
  #ready = new Deferred<void>();
  #watching: AbortController | undefined;
  #uses = 0;
  #linger: Timer | undefined;

  constructor(client: Client, layout: QueueKeys, onClosed: () => void) {
    this.client = client;
    this.layout = layout;
    this.#onClosed = onClosed;
  }

  /** As of which revision the keys were last read whole; 0 before that. */
  get readAt(): bigint {
    return this.#readAt;
  }

  /** For each priority, a number above all that were given out. */
  get tails(): ReadonlyMap<number, number> {
    return new Map([...this.#sequences].map(([priority, sequence]) => [priority, tailOf(sequence)]));
  }

  /** The workers that are there. */
  get workers(): ReadonlySet<string> {
    return this.#workers;
  }

  /** Which of the workers this one is, in an order on which all agree who know of the same workers. */
  rank(member: string): { readonly rank: number; readonly workers: number } {
    this.#sorted ??= [...this.#workers].sort();
    return { rank: Math.max(0, this.#sorted.indexOf(member)), workers: Math.max(1, this.#sorted.length) };
  }

  get paused(): boolean {
    return isPaused(this.#pause);
  }

  /** Holds as long as nobody has paused the queue, or resumed it, since what is known of it was so. */
  get sinceUnpaused(): Compare {
    return compare.modRevision(this.layout.paused, '=', this.#pause?.modRevision ?? 0n);
  }

  /** Who appends the delayed jobs that are due; undefined: nobody. */
  get scheduler(): Scheduler | undefined {
    return this.#scheduler;
  }

  /** Resolves once the keys are known; rejects when it cannot be followed. Somebody must be using it. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Follows the queue and tells `listener` of every change, until the returned function is called. */
  use(listener: (change: ControlEvent) => void): () => void {
    this.#uses += 1;
    this.#linger?.cancel();
    this.#linger = undefined;
    this.#listeners.add(listener);
    if (this.#watching === undefined) this.#open();
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.#uses -= 1;
      this.#listeners.delete(listener);
      if (this.#uses === 0) this.#linger = this.client.clock.setTimer(LINGER_MS, () => this.#close());
    };
  }

  /** How late one of the workers should look at something that all of them have just been told of, in milliseconds. */
  jitterMs(perWorkerMs: number): number {
    return this.#workers.size > 1 ? chance.fraction() * this.#workers.size * perWorkerMs : 0;
  }

  /** This client has appended to a priority, at `revision`: its workers hear of it before the watch brings it. */
  appended(priority: number, { first, last }: Appended, revision: bigint): void {
    if (this.#watching === undefined || revision <= this.#seenAt) return;
    const before = this.#sequences.get(priority) ?? NO_SEQUENCE;
    const sequence = { ...before, last: Math.max(before.last, last) };
    this.#sequences.set(priority, sequence);
    this.#told.set(priority, revision);
    this.#tell({ first, priority, tail: tailOf(sequence), what: 'appended' });
  }

  #open(): void {
    const watching = new AbortController();
    this.#watching = watching;
    this.#ready = new Deferred<void>();
    void this.#follow(watching.signal).catch((error: unknown) => {
      if (!watching.signal.aborted) this.#fail(error);
    });
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const range = { prefix: this.layout.control };
    const watcher = this.client.watch(range, { onCompacted: 'relist', signal });
    await watcher.created;
    const read = await untilAnswered(this.client.clock, signal, () =>
      this.client.kv.range(range, { signal }),
    );
    this.#load(read);
    this.#ready.resolve();
    this.#tell({ reverted: false, what: 'all' });
    for await (const { snapshot, events, revision } of watcher) {
      if (snapshot !== undefined) {
        const reverted = revision < this.#seenAt;
        this.#load({ kvs: snapshot, revision });
        this.#tell({ reverted, what: 'all' });
      }
      for (const event of events) if (event.kv.modRevision > this.#readAt) this.#apply(event);
      if (events.some(({ type, kv }) => type === 'delete' && this.#isSequence(kv.key)))
        this.#tell({ reverted: false, what: 'all' }); // The queue was emptied: numbers begin anew.
    }
  }

  #load({ kvs, revision }: { readonly kvs: readonly KeyValue[]; readonly revision: bigint }): void {
    this.#readAt = this.#seenAt = revision;
    this.#sequences.clear();
    this.#told.clear();
    this.#workers.clear();
    this.#sorted = undefined;
    this.#pause = this.#scheduler = undefined;
    for (const kv of kvs) this.#set(kv);
  }

  #set(kv: KeyValue): ControlEvent | undefined {
    const { layout } = this;
    if (this.#isSequence(kv.key)) return this.#grew(kv);
    if (kv.key.startsWith(layout.workers)) {
      this.#workers.add(kv.key.slice(layout.workers.length));
      this.#sorted = undefined;
    }
    if (kv.key === layout.paused) {
      this.#pause = kv;
      return { what: 'paused' };
    }
    if (kv.key !== layout.scheduler) return undefined;
    this.#scheduler = { clientId: String(readOwner(kv)['clientId']), modRevision: kv.modRevision };
    return { revision: kv.modRevision, what: 'scheduler' };
  }

  #isSequence(key: string): boolean {
    return key.startsWith(this.layout.sequences) || key.startsWith(this.layout.tails);
  }

  /** Somebody has appended; a client of the earlier layout, if it is a tail's key. */
  #grew(kv: KeyValue): ControlEvent | undefined {
    const priority = this.layout.priorityOf(kv.key);
    const before = this.#sequences.get(priority) ?? NO_SEQUENCE;
    const isTail = kv.key.startsWith(this.layout.tails);
    const base = isTail ? decodeTail(kv) : before.base;
    const appended = isTail ? { first: before.base, last: base - 1 } : decodeAppended(kv);
    const sequence = {
      base,
      last: Math.max(before.last, appended?.last ?? -1),
      version: isTail ? before.version : Number(kv.version),
    };
    this.#sequences.set(priority, sequence);
    if (appended === undefined || this.#told.get(priority) === kv.modRevision) return undefined;
    return { first: appended.first, priority, tail: tailOf(sequence), what: 'appended' };
  }

  #apply({ type, kv }: WatchEvent): void {
    this.#seenAt = kv.modRevision;
    const change = type === 'put' ? (this.#announced(kv) ?? this.#set(kv)) : this.#deleted(kv);
    if (change !== undefined) this.#tell(change);
  }

  /** Keys whose latest value says what has just been done. */
  #announced(kv: KeyValue): ControlEvent | undefined {
    if (kv.key === this.layout.due) return { dueMs: Number(kv.string()), what: 'due' };
    return kv.key === this.layout.back ? { returned: decodeReturned(kv), what: 'back' } : undefined;
  }

  #deleted({ key, modRevision }: KeyValue): ControlEvent | undefined {
    const { layout } = this;
    if (key.startsWith(layout.workers)) {
      const member = key.slice(layout.workers.length);
      this.#workers.delete(member);
      this.#sorted = undefined;
      return { member, what: 'left' };
    }
    if (this.#isSequence(key)) {
      this.#sequences.delete(layout.priorityOf(key));
      this.#told.clear();
    }
    if (key === layout.paused) {
      this.#pause = undefined;
      return { what: 'paused' };
    }
    if (key !== layout.scheduler) return undefined;
    this.#scheduler = undefined;
    return { revision: modRevision, what: 'scheduler' };
  }

  #tell(change: ControlEvent): void {
    for (const listener of [...this.#listeners]) listener(change);
  }

  #fail(cause: unknown): void {
    const error = hasCode(cause)
      ? cause
      : new ConclaveError('UNAVAILABLE', `the queue ${this.layout.root} cannot be followed`, { cause });
    this.#watching = undefined;
    this.#linger?.cancel();
    this.#onClosed();
    this.#ready.reject(error);
    this.#tell({ error, what: 'failed' });
  }

  #close(): void {
    if (this.#uses > 0) return;
    this.#watching?.abort();
    this.#watching = undefined;
    this.#ready.reject(new ConclaveError('CLOSED', `nobody follows the queue ${this.layout.root} any more`));
    this.#onClosed();
  }
}

function tailOf({ base, last, version }: Sequence): number {
  return Math.max(firstNumber(base, version), last + 1);
}

const watches = new WeakMap<Client, Map<string, ControlWatch>>();

/** The control watch of a queue that somebody uses through this client, if there is one. */
export function knownControlWatch(client: Client, layout: QueueKeys): ControlWatch | undefined {
  return watches.get(client)?.get(layout.root);
}

/** The control watch of a queue, shared by all who use it through this client. */
export function controlWatchOf(client: Client, layout: QueueKeys): ControlWatch {
  const named = watches.get(client) ?? new Map<string, ControlWatch>();
  watches.set(client, named);
  let control = named.get(layout.root);
  if (control === undefined) {
    control = new ControlWatch(client, layout, () => {
      if (named.get(layout.root) === control) named.delete(layout.root);
    });
    named.set(layout.root, control);
  }
  return control;
}
