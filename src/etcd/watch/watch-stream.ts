/**
 * One gRPC stream that carries all watches of a client. It is open only while there are watches. When it breaks, each
 * watch is created anew, on whichever member answers, at the revision after the last event it delivered: an event is
 * neither lost nor repeated.
 */
import type { ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import { isHistoryGone } from '../../errors/transient.js';
import type { WatchRequestInput, WatchResponse } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { OVER, sleep } from '../../util/abort.js';
import { backoffMs } from '../../util/backoff.js';
import { tell } from '../../util/channels.js';
import type { WriteGate } from '../kv/write-gate.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import type { WireStream } from '../transport/wire.js';
import type { Moment } from '../transport/history.js';
import { etcdError } from '../transport/status.js';
import { untilAnswered } from '../transport/until-answered.js';
import { StreamedWatch, type WatchRequest, type WatchSink } from './streamed-watch.js';

/** One watch of the stream. */
export interface Subscription {
  /** Ends the watch. Nothing is delivered afterwards. */
  cancel(): void;
  /** The next revision that could be delivered: where a watch that continues this one begins. */
  readonly nextRevision: bigint;
  /** The history that it follows: a watch that continues this one in another is told so. */
  readonly epoch: number;
}

/** Where watches begin: on a client's stream, or in a namespace of it. */
export interface Watches {
  /** Begins a watch. Throws `CLOSED`. */
  subscribe(request: WatchRequest, sink: WatchSink): Subscription;
}

type Stream = WireStream<WatchRequestInput, WatchResponse>;

interface OpenStream {
  readonly stream: Stream;
  readonly endpoint: Endpoint;
  readonly token: string | undefined;
  /** Watches asked for, in order: the server answers creations in that order. */
  readonly creating: StreamedWatch[];
  readonly byId: Map<bigint, StreamedWatch>;
  /** Watches that go on here where they were before, in the history of then. */
  readonly resumed: Set<StreamedWatch>;
  /** Aborts when it is left. */
  readonly left: AbortController;
  /** Whether its first answer has been compared with the history that was seen. */
  looked: boolean;
}

type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'opening'; readonly stop: AbortController }
  | ({ readonly phase: 'open' } & OpenStream);

export class WatchStream implements Watches {
  readonly #connection: Connection;
  readonly #gate: WriteGate;
  readonly #entries = new Set<StreamedWatch>();
  #state: State = { phase: 'idle' };
  #failures = 0;
  /** The stream that shows that history is another one, while that is told. */
  #since: OpenStream | undefined;

  /** `gate`: where the writes wait that the watches must not miss. */
  constructor(connection: Connection, gate: WriteGate) {
    this.#connection = connection;
    this.#gate = gate;
    connection.history.onBegin(() => this.#revertAll());
  }

  /** Begins a watch. */
  subscribe(request: WatchRequest, sink: WatchSink): Subscription {
    this.#connection.closed.throwIfAborted();
    const entry = new StreamedWatch(request, sink);
    this.#entries.add(entry);
    // One that begins at a given revision misses nothing, whenever it is created.
    if (request.startRevision === 0n && request.readAfterwards !== true) entry.settle = this.#gate.ask(entry);
    if (this.#state.phase === 'open') this.#create(this.#state, entry);
    else if (this.#state.phase === 'idle') void this.#open(undefined);
    const { history } = this.#connection;
    const { continues = history.epoch } = request;
    if (continues !== history.epoch) queueMicrotask(() => this.#revert([entry], history.revision));
    return {
      get epoch() {
        return history.epoch;
      },
      cancel: () => this.#cancel(entry),
      get nextRevision() {
        return entry.nextRevision;
      },
    };
  }

  /** Ends every watch with `error`. */
  close(error: ConclaveError): void {
    for (const entry of [...this.#entries]) this.#fail(entry, error);
  }

  #create(open: OpenStream, entry: StreamedWatch): void {
    open.creating.push(entry);
    if (entry.goesOn) open.resumed.add(entry);
    open.stream.write({ createRequest: entry.creation() });
  }

  #cancel(entry: StreamedWatch): void {
    if (entry.over) return;
    const { id } = entry;
    this.#end(entry);
    if (this.#state.phase !== 'open') return;
    if (id === undefined) return; // Its creation is under way: the answer finds it over and cancels it.
    this.#state.byId.delete(id);
    this.#state.stream.write({ cancelRequest: { watchId: id } });
  }

  #fail(entry: StreamedWatch, error: ConclaveError): void {
    if (entry.over) return;
    this.#end(entry);
    if (isHistoryGone(error))
      tell('watch', () => ({ error, event: 'gap', key: entry.request.key, revision: entry.nextRevision }));
    entry.sink.failed(error);
  }

  #end(entry: StreamedWatch): void {
    entry.end();
    this.#entries.delete(entry);
    if (this.#entries.size > 0) return;
    const state = this.#state;
    this.#state = { phase: 'idle' };
    if (state.phase === 'open') leave(state);
    if (state.phase === 'opening') state.stop.abort(OVER);
  }

  async #open(avoid: Endpoint | undefined): Promise<void> {
    const stop = new AbortController();
    this.#state = { phase: 'opening', stop };
    const stillWanted = (): boolean => this.#state.phase === 'opening' && this.#state.stop === stop;
    try {
      if (this.#failures > 0) {
        await sleep(
          this.#connection.clock,
          backoffMs(this.#failures - 1, { baseMs: 20, maxMs: 1000 }),
          stop.signal,
        );
      }
      const { stream, endpoint } = await this.#connection.duplex(services.Watch.Watch, {
        avoid,
        signal: stop.signal,
      });
      if (!stillWanted()) {
        stream.on('error', () => undefined);
        stream.cancel();
        return;
      }
      const open: State & OpenStream = {
        byId: new Map(),
        creating: [],
        endpoint,
        left: new AbortController(),
        looked: false,
        phase: 'open',
        resumed: new Set(),
        stream,
        token: this.#connection.token.current,
      };
      this.#state = open;
      stream.on('data', (response: WatchResponse) => this.#receive(open, response));
      stream.on('end', () => this.#broken(open));
      stream.on('error', (error: ServiceError) => this.#streamError(open, error));
      for (const entry of this.#entries) this.#create(open, entry);
    } catch (error) {
      if (!stillWanted()) return;
      this.#failures += 1;
      this.#state = { phase: 'idle' };
      if (this.#connection.closed.aborted) return;
      if (hasCode(error, 'AUTH_FAILED') && !this.#connection.token.mayChange) this.close(error);
      else void this.#open(avoid);
    }
  }

  #streamError(open: OpenStream, error: ServiceError): void {
    if (this.#state !== open) return;
    const failure = this.#connection.judge(error, 'watch', open.endpoint);
    if (
      hasCode(failure.error, 'INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION') &&
      this.#connection.token.renewable
    ) {
      this.#connection.token.drop(open.token);
    } else if (!failure.transient) {
      for (const entry of [...this.#entries]) this.#fail(entry, failure.error);
      return;
    }
    this.#broken(open);
  }

  /** The stream is gone: everything goes on, on another member if there is one. */
  #broken(open: OpenStream): void {
    if (this.#state !== open) return;
    this.#failures += 1;
    this.#reopen(open, open.endpoint);
  }

  /** Everything goes on, on another stream. */
  #reopen(open: OpenStream, avoid: Endpoint | undefined): void {
    this.#state = { phase: 'idle' };
    leave(open);
    for (const entry of this.#entries) entry.lost(this.#connection.clock.now());
    if (this.#connection.closed.aborted || this.#entries.size === 0) return;
    void this.#open(avoid);
  }

  #receive(open: OpenStream, response: WatchResponse): void {
    if (this.#state !== open) return;
    this.#failures = 0;
    open.endpoint.heard(this.#connection.clock.now());
    if (response.created) {
      this.#created(open, response);
      return;
    }
    const entry = open.byId.get(response.watchId);
    if (entry === undefined || entry.over) return;
    if (response.canceled) {
      open.byId.delete(response.watchId);
      this.#canceled(open, entry, response);
    } else {
      this.#connection.history.saw(response.header);
      entry.deliver(response);
    }
  }

  #created(open: OpenStream, response: WatchResponse): void {
    const entry = open.creating.shift();
    if (entry === undefined) return;
    if (response.header != null) this.#look(open, entry, response.header);
    this.#connection.history.saw(response.header);
    if (response.canceled) {
      if (!entry.over) this.#canceled(open, entry, response);
      return;
    }
    const { watchId } = response;
    if (!entry.over) {
      open.byId.set(watchId, entry);
      if (entry.created(response, this.#connection.clock.now())) return;
      open.byId.delete(watchId);
      this.#create(open, entry);
    }
    open.stream.write({ cancelRequest: { watchId } });
  }

  /** Looks, once for each stream, whether history is the one that its watches followed before. */
  #look(open: OpenStream, entry: StreamedWatch, header: Moment): void {
    const { history } = this.#connection;
    if (open.looked || header.revision === 0n) return;
    open.looked = true;
    if (history.isOther(header)) this.#begin(open, header);
    else if (history.isBehind(header)) this.#prove(open, entry).catch(() => undefined); // It breaks as the stream does.
  }

  /** The member is behind what was seen: it lags, or history went back. A read that it must catch up for tells. */
  async #prove(open: OpenStream, { key }: StreamedWatch): Promise<void> {
    const { clock, history } = this.#connection;
    const { signal } = open.left;
    const call = { kind: 'read', request: { countOnly: true, key }, rpc: services.KV.Range } as const;
    const seen = history.revision;
    const what = 'look at the revision';
    const { header } = await untilAnswered(clock, signal, () =>
      this.#connection.unary({ ...call, endpoint: open.endpoint, signal, what }),
    );
    if (this.#state === open && header != null && header.revision < seen) this.#begin(open, header);
  }

  /** History is another one: what went on here has lost its own. What was begun on this stream has not. */
  #begin(open: OpenStream, header: Moment): void {
    this.#since = open;
    this.#connection.history.begin(header);
    this.#since = undefined;
  }

  /** Tells those that follow a history which is no more. */
  #revertAll(): void {
    const since = this.#since;
    const old = since === undefined ? [...this.#entries].filter(({ goesOn }) => goesOn) : [...since.resumed];
    since?.resumed.clear();
    if (this.#state.phase === 'open') {
      for (const { id } of old)
        if (id !== undefined) this.#state.stream.write({ cancelRequest: { watchId: id } });
    }
    this.#revert(old, this.#connection.history.revision);
  }

  #revert(entries: readonly StreamedWatch[], revision: bigint): void {
    for (const entry of entries) {
      const text =
        `watch ${entry.request.what}: etcd's history is not the one that was followed: it is at revision ${String(revision)} now. ` +
        'It was restored or emptied, or another cluster answers; read anew what is there';
      this.#fail(entry, new ConclaveError('HISTORY_REVERTED', text, { key: entry.request.key }));
    }
  }

  #canceled(open: OpenStream, entry: StreamedWatch, response: WatchResponse): void {
    const { what } = entry.request;
    if (response.compactRevision > 0n) {
      const text = `watch ${what}: revision ${String(entry.nextRevision)} is compacted; the oldest left is ${String(response.compactRevision)}`;
      const options = { compactRevision: response.compactRevision, key: entry.request.key };
      this.#fail(entry, new ConclaveError('COMPACTED', text, options));
      return;
    }
    const message = response.cancelReason.replace(/^rpc error: code = \w+ desc = /, '');
    const denied = /permission denied|invalid auth token|revision of auth store is old/.test(message);
    const status = denied ? 'PERMISSION_DENIED' : 'FAILED_PRECONDITION';
    const text = message === '' ? 'the watch was canceled' : message;
    const error = etcdError(text, status, `watch ${what}`, entry.request.key);
    if (!denied || !this.#connection.token.renewable || entry.refusals > 0) this.#fail(entry, error);
    else void this.#renewToken(open, entry, error);
  }

  /**
   * etcd refused a watch with a token that may have run out: servers before 3.5 say "permission denied" of both. A call
   * that needs no permission tells, and renews the token; only then does a new stream pay. Otherwise the range itself
   * was refused, which is nothing to the other watches.
   */
  async #renewToken(open: OpenStream, entry: StreamedWatch, denied: ConclaveError): Promise<void> {
    entry.refusals += 1;
    const { clock, closed, token } = this.#connection;
    entry.lost(clock.now());
    try {
      if (token.current === open.token) await untilAnswered(clock, closed, () => this.#askNothing());
    } catch (error) {
      if (this.#state === open) this.#fail(entry, hasCode(error) ? error : denied);
      return;
    }
    if (this.#state !== open) return; // The stream broke, and the watch is on its way on another one.
    if (token.current === open.token) this.#fail(entry, denied);
    else this.#reopen(open, undefined);
  }

  /** An empty transaction: it needs no permission but a token that is taken. */
  async #askNothing(): Promise<void> {
    const call = { kind: 'read', request: {}, rpc: services.KV.Txn, what: 'check the token' } as const;
    await this.#connection.unary(call);
  }
}

function leave({ left, stream }: OpenStream): void {
  left.abort(OVER);
  stream.cancel();
}
