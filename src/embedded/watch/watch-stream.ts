import type { ServerDuplexStream } from '@grpc/grpc-js';

import type {
  EventInput,
  WatchCreateRequest,
  WatchRequest,
  WatchResponseInput,
} from '../../proto/messages.gen.js';
import type { Clock, Timer } from '../../util/clock.js';
import type { Headers } from '../rpc/headers.js';
import type { KeyVersion } from '../store/key-history.js';
import { isEmptyRange, type KeyRange, keyRange } from '../store/key-range.js';
import { etcdError } from '../rpc/rpc-error.js';
import type { Store } from '../store/store.js';
import { nextBatch } from './watch-catch-up.js';
import type { WatchHub, WatchSink } from './watch-hub.js';
import { fragments } from './watch-response.js';
import { Watcher } from './watcher.js';
import { chance } from '../../util/chance.js';

/** The id in a response that is about no watch, or about all of them. */
const NO_WATCH = -1n;
const LEAST_KEY = Buffer.of(0);

/** What all watch streams share. */
export interface WatchParts {
  readonly store: Store;
  readonly hub: WatchHub;
  readonly headers: Headers;
  readonly clock: Clock;
  /** How often an idle watch that asked for it is told of the store's progress. */
  readonly progressIntervalMs: number;
}

type WatchCall = ServerDuplexStream<WatchRequest, WatchResponseInput>;

/**
 * One client's stream of watches. A watch is either live, and gets each commit while it happens, or behind, and reads
 * the past in batches until it has caught up. When the client does not read fast enough, all watches that would get
 * something fall behind: what waits in memory is bounded by what the stream buffers.
 */
export class WatchStream implements WatchSink {
  readonly #call: WatchCall;
  readonly #parts: WatchParts;
  readonly #watchers = new Map<bigint, Watcher>();
  readonly #behind = new Set<Watcher>();
  #state: 'flowing' | 'blocked' | 'closed' = 'flowing';
  #nextId = 0n;
  #progressTimer: Timer | undefined;

  constructor(call: WatchCall, parts: WatchParts) {
    this.#call = call;
    this.#parts = parts;
    const close = (): void => this.#close();
    call.on('data', (request: WatchRequest) => this.#receive(request));
    call.on('drain', () => this.#drained());
    call.on('cancelled', close);
    call.on('close', close);
    call.on('error', close);
  }

  take(watcher: Watcher, revision: bigint, changes: readonly KeyVersion[]): void {
    if (revision < watcher.nextRevision || this.#behind.has(watcher)) return;
    if (this.#state !== 'flowing') {
      watcher.nextRevision = revision;
      this.#behind.add(watcher);
      return;
    }
    watcher.nextRevision = revision + 1n;
    this.#sendEvents(watcher, watcher.events(this.#parts.store, changes));
  }

  #receive({ createRequest, cancelRequest, progressRequest }: WatchRequest): void {
    if (createRequest !== undefined) this.#create(createRequest);
    else if (cancelRequest !== undefined) this.#cancel(cancelRequest.watchId);
    else if (progressRequest !== undefined) this.#reportAll();
  }

  #create(request: WatchCreateRequest): void {
    const { store, hub } = this.#parts;
    const range = keyRange(request.key.length === 0 ? LEAST_KEY : request.key, request.rangeEnd);
    const id = request.watchId === 0n ? this.#freeId() : request.watchId;
    const refusal = this.#refusal(request.startRevision, range, id);
    if (refusal !== undefined) {
      this.#send({ watchId: NO_WATCH, created: true, canceled: true, cancelReason: refusal });
      return;
    }

    const nextRevision = request.startRevision === 0n ? store.revision + 1n : request.startRevision;
    const watcher = new Watcher({ id, range, nextRevision, request });
    this.#watchers.set(id, watcher);
    // As in etcd, an id the server chose is not chosen again.
    if (request.watchId === 0n) this.#nextId = id + 1n;
    hub.add(watcher, this);
    this.#send({ watchId: id, created: true });
    if (nextRevision <= store.revision) {
      this.#behind.add(watcher);
      this.#catchUp(watcher);
    }
    if (watcher.progressNotify) this.#armProgress();
  }

  /** Why a watch cannot be; it is then created and cancelled in one response. */
  #refusal(startRevision: bigint, range: KeyRange, id: bigint): string | undefined {
    if (startRevision < 0n) return etcdError('COMPACTED').message;
    if (isEmptyRange(range)) return 'mvcc: watcher range is empty';
    if (this.#watchers.has(id)) return 'mvcc: duplicate watch ID provided on the WatchStream';
    return undefined;
  }

  #freeId(): bigint {
    while (this.#watchers.has(this.#nextId)) this.#nextId++;
    return this.#nextId;
  }

  #cancel(watchId: bigint): void {
    const watcher = this.#watchers.get(watchId);
    if (watcher === undefined) return;
    this.#watchers.delete(watchId);
    this.#detach(watcher);
    this.#send({ watchId, canceled: true });
  }

  #detach(watcher: Watcher): void {
    this.#behind.delete(watcher);
    this.#parts.hub.delete(watcher);
  }

  /** Reads the past until the watch is live, or the client does not take more for now. */
  #catchUp(watcher: Watcher): void {
    const { store } = this.#parts;
    while (this.#state === 'flowing') {
      if (watcher.nextRevision > store.revision) {
        this.#behind.delete(watcher);
        return;
      }
      if (watcher.nextRevision < store.compactedRevision) {
        this.#endCompacted(watcher);
        return;
      }
      this.#sendEvents(watcher, nextBatch(store, watcher));
    }
  }

  #endCompacted(watcher: Watcher): void {
    watcher.compacted = true;
    this.#detach(watcher);
    this.#send({
      header: this.#parts.headers.at(0n),
      watchId: watcher.id,
      canceled: true,
      compactRevision: this.#parts.store.compactedRevision,
    });
  }

  #sendEvents(watcher: Watcher, events: readonly EventInput[]): void {
    if (events.length === 0) return;
    watcher.heard = true;
    const response = { watchId: watcher.id, events };
    if (watcher.fragment) for (const part of fragments(response)) this.#send(part);
    else this.#send(response);
  }

  #send(response: WatchResponseInput): void {
    if (this.#state === 'closed') return;
    response.header ??= this.#parts.headers.at();
    if (this.#call.write(response)) return;
    // No more requests either until the client has read what is there.
    this.#state = 'blocked';
    this.#call.pause();
  }

  #drained(): void {
    if (this.#state !== 'blocked') return;
    this.#state = 'flowing';
    this.#call.resume();
    for (const watcher of this.#behind) this.#catchUp(watcher);
  }

  /** Answers a request for progress, which only says something when every watch of the stream is live. */
  #reportAll(): void {
    if (this.#behind.size > 0 || this.#watchers.size === 0) return;
    this.#send({ watchId: NO_WATCH });
  }

  #armProgress(): void {
    const { clock, progressIntervalMs } = this.#parts;
    // As in etcd, streams opened together do not report together.
    const delayMs = progressIntervalMs * (1 + chance.fraction() / 10);
    this.#progressTimer ??= clock.setTimer(delayMs, () => {
      this.#progressTimer = undefined;
      this.#reportIdle();
    });
  }

  #reportIdle(): void {
    let wanted = false;
    for (const watcher of this.#watchers.values()) {
      if (!watcher.progressNotify || watcher.compacted) continue;
      wanted = true;
      if (!watcher.heard && !this.#behind.has(watcher)) this.#send({ watchId: watcher.id });
      watcher.heard = false;
    }
    if (wanted) this.#armProgress();
  }

  #close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#progressTimer?.cancel();
    for (const watcher of this.#watchers.values()) this.#detach(watcher);
    this.#watchers.clear();
  }
}
