/**
 * What the workers of one client know of a queue: one ordered watch over its few control keys, shared by all of them.
 * A batch of pushed jobs is one change here, however many jobs it has, so following a queue costs little.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/key-value.js';
import { untilAnswered } from '../etcd/until-answered.js';
import type { WatchEvent } from '../etcd/watch-event.js';
import type { Timer } from '../util/clock.js';
import { Deferred } from '../util/deferred.js';
import type { Layout, Place } from './layout.js';

/** What has changed. */
export type BoardChange =
  /** Everything may have: the board was read anew. */
  | { readonly what: 'all' }
  /** Numbers up to `tail` of this priority have been given out. */
  | { readonly what: 'tail'; readonly priority: number; readonly tail: number }
  /** These jobs are back at their places. */
  | { readonly what: 'back'; readonly places: readonly Place[] }
  /** A job was delayed until `dueMs`, by the wall clock. */
  | { readonly what: 'due'; readonly dueMs: number }
  | { readonly what: 'paused' }
  /** This worker has left, or its session has ended. */
  | { readonly what: 'left'; readonly member: string }
  /** The board cannot be followed; nothing more comes. */
  | { readonly what: 'failed'; readonly error: unknown };

/** How long an unused board is kept, since opening one costs a watch and a read. */
const LINGER_MS = 3000;

export class Board {
  readonly client: Client;
  readonly layout: Layout;
  readonly #tails = new Map<number, number>();
  readonly #workers = new Set<string>();
  readonly #listeners = new Set<(change: BoardChange) => void>();
  readonly #onClosed: () => void;
  #sorted: readonly string[] | undefined;
  #readAt = 0n;
  #paused = false;
  #ready = new Deferred<void>();
  #watching: AbortController | undefined;
  #uses = 0;
  #linger: Timer | undefined;

  constructor(client: Client, layout: Layout, onClosed: () => void) {
    this.client = client;
    this.layout = layout;
    this.#onClosed = onClosed;
  }

  /** As of which revision the board was last read whole; 0 before that. */
  get readAt(): bigint {
    return this.#readAt;
  }

  /** How many numbers of each priority have been given out. */
  get tails(): ReadonlyMap<number, number> {
    return this.#tails;
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
    return this.#paused;
  }

  /** Resolves once the board is known; rejects when it cannot be followed. Somebody must be using it. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Follows the queue and tells `listener` of every change, until the returned function is called. */
  use(listener: (change: BoardChange) => void): () => void {
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
    return this.#workers.size > 1 ? Math.random() * this.#workers.size * perWorkerMs : 0;
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
    this.#tell({ what: 'all' });
    for await (const { snapshot, events, revision } of watcher) {
      if (snapshot !== undefined) {
        this.#load({ kvs: snapshot, revision });
        this.#tell({ what: 'all' });
      }
      for (const event of events) if (event.kv.modRevision > read.revision) this.#apply(event);
      if (events.some(({ type, kv }) => type === 'delete' && kv.key.startsWith(this.layout.tails)))
        this.#tell({ what: 'all' }); // The queue was emptied: numbers begin anew.
    }
  }

  #load({ kvs, revision }: { readonly kvs: readonly KeyValue[]; readonly revision: bigint }): void {
    this.#readAt = revision;
    this.#tails.clear();
    this.#workers.clear();
    this.#sorted = undefined;
    this.#paused = false;
    for (const kv of kvs) this.#set(kv);
  }

  #set(kv: KeyValue): BoardChange | undefined {
    const { layout } = this;
    if (kv.key.startsWith(layout.tails)) {
      const priority = layout.priorityOf(kv.key);
      const tail = Number(kv.string());
      this.#tails.set(priority, tail);
      return { priority, tail, what: 'tail' };
    }
    if (kv.key.startsWith(layout.workers)) {
      this.#workers.add(kv.key.slice(layout.workers.length));
      this.#sorted = undefined;
    }
    if (kv.key === layout.paused) {
      this.#paused = true;
      return { what: 'paused' };
    }
    return undefined;
  }

  #apply({ type, kv }: WatchEvent): void {
    const change = type === 'put' ? (this.#announced(kv) ?? this.#set(kv)) : this.#deleted(kv.key);
    if (change !== undefined) this.#tell(change);
  }

  /** Keys whose latest value says what has just been done. */
  #announced(kv: KeyValue): BoardChange | undefined {
    if (kv.key === this.layout.due) return { dueMs: Number(kv.string()), what: 'due' };
    return kv.key === this.layout.back ? { places: decodePlaces(kv), what: 'back' } : undefined;
  }

  #deleted(key: string): BoardChange | undefined {
    const { layout } = this;
    if (key.startsWith(layout.workers)) {
      const member = key.slice(layout.workers.length);
      this.#workers.delete(member);
      this.#sorted = undefined;
      return { member, what: 'left' };
    }
    if (key.startsWith(layout.tails)) this.#tails.delete(layout.priorityOf(key));
    if (key !== layout.paused) return undefined;
    this.#paused = false;
    return { what: 'paused' };
  }

  #tell(change: BoardChange): void {
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

/** What an announcement of returned jobs holds. */
export function encodePlaces(places: readonly Place[]): string {
  return JSON.stringify(places.map(({ priority, number, id }) => [priority, number, id]));
}

function decodePlaces(kv: KeyValue): readonly Place[] {
  try {
    const places = kv.json() as readonly (readonly [number, number, string])[];
    return places.map(([priority, number, id]) => ({ id, number, priority }));
  } catch {
    return []; // Somebody else wrote it: it announces nothing.
  }
}

const boards = new WeakMap<Client, Map<string, Board>>();

/** The board of a queue, shared by all who use it through this client. */
export function boardOf(client: Client, layout: Layout): Board {
  const named = boards.get(client) ?? new Map<string, Board>();
  boards.set(client, named);
  let board = named.get(layout.root);
  if (board === undefined) {
    board = new Board(client, layout, () => {
      if (named.get(layout.root) === board) named.delete(layout.root);
    });
    named.set(layout.root, board);
  }
  return board;
}
