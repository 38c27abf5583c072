import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { WatchRequestInput, WatchResponse } from '../proto/messages.gen.js';
import { services } from '../proto/services.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { Deferred } from '../util/deferred.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import { etcdError } from './status.js';
import { StreamedWatch, type WatchRequest, type WatchSink } from './streamed-watch.js';

/** One watch of the stream. */
export interface Subscription {
  /** Ends the watch. Nothing is delivered afterwards. */
  cancel(): void;
  /** The next revision that could be delivered: where a watch that continues this one begins. */
  readonly nextRevision: bigint;
}

type Stream = ClientDuplexStream<WatchRequestInput, WatchResponse>;

interface OpenStream {
  readonly stream: Stream;
  readonly endpoint: Endpoint;
  readonly token: string | undefined;
  /** Watches asked for, in order: the server answers creations in that order. */
  readonly creating: StreamedWatch[];
  readonly byId: Map<bigint, StreamedWatch>;
}

type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'opening'; readonly stop: AbortController }
  | ({ readonly phase: 'open' } & OpenStream);

/**
 * One gRPC stream that carries all watches of a client. It is open only while there are watches. When it breaks, each
 * watch is created anew, on whichever member answers, at the revision after the last event it delivered: an event is
 * neither lost nor repeated.
 */
export class WatchStream {
  readonly #connection: Connection;
  readonly #entries = new Set<StreamedWatch>();
  #state: State = { phase: 'idle' };
  #failures = 0;
  #unsettled = 0;
  #settled: Deferred<void> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Resolves when every watch asked for so far has been created or has failed; undefined when that is so already. */
  get settled(): Promise<void> | undefined {
    if (this.#unsettled === 0) return undefined;
    this.#settled ??= new Deferred();
    return this.#settled.promise;
  }

  /** Begins a watch. */
  subscribe(request: WatchRequest, sink: WatchSink): Subscription {
    this.#connection.closed.throwIfAborted();
    const entry = new StreamedWatch(request, sink);
    this.#entries.add(entry);
    this.#unsettled += 1;
    if (this.#state.phase === 'open') this.#create(this.#state, entry);
    else if (this.#state.phase === 'idle') void this.#open(undefined);
    return {
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
    entry.sink.failed(error);
  }

  #end(entry: StreamedWatch): void {
    entry.over = true;
    this.#entries.delete(entry);
    this.#settle(entry);
    if (this.#entries.size > 0) return;
    const state = this.#state;
    this.#state = { phase: 'idle' };
    if (state.phase === 'open') state.stream.cancel();
    if (state.phase === 'opening') state.stop.abort();
  }

  #settle(entry: StreamedWatch): void {
    if (entry.announced) return;
    entry.announced = true;
    this.#unsettled -= 1;
    if (this.#unsettled > 0) return;
    this.#settled?.resolve();
    this.#settled = undefined;
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
        phase: 'open',
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
      if (hasCode(error, 'AUTH_FAILED')) this.close(error);
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

  /** The stream is gone: everything goes on, on another one. */
  #broken(open: OpenStream): void {
    if (this.#state !== open) return;
    this.#failures += 1;
    this.#state = { phase: 'idle' };
    open.stream.cancel();
    if (this.#connection.closed.aborted || this.#entries.size === 0) return;
    void this.#open(open.endpoint);
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
      entry.deliver(response);
    }
  }

  #created(open: OpenStream, response: WatchResponse): void {
    const entry = open.creating.shift();
    if (entry === undefined) return;
    if (response.canceled) {
      if (!entry.over) this.#canceled(open, entry, response);
      return;
    }
    if (entry.over) {
      open.stream.write({ cancelRequest: { watchId: response.watchId } });
      return;
    }
    open.byId.set(response.watchId, entry);
    const revision = entry.created(response);
    if (entry.announced) return;
    this.#settle(entry);
    entry.sink.created(revision);
  }

  #canceled(open: OpenStream, entry: StreamedWatch, response: WatchResponse): void {
    const { what } = entry.request;
    if (response.compactRevision > 0n) {
      const text = `watch ${what}: revision ${String(entry.nextRevision)} is compacted; the oldest left is ${String(response.compactRevision)}`;
      const options = { compactRevision: response.compactRevision, key: what };
      this.#fail(entry, new ConclaveError('COMPACTED', text, options));
      return;
    }
    const message = response.cancelReason.replace(/^rpc error: code = \w+ desc = /, '');
    const denied = /permission denied|invalid auth token|revision of auth store is old/.test(message);
    if (denied && this.#connection.token.renewable && !entry.refused) {
      // Servers before 3.5.x say "permission denied" for a token that ran out: try once with a fresh one.
      entry.refused = true;
      this.#connection.token.drop(open.token);
      this.#broken(open);
      return;
    }
    const status = denied ? 'PERMISSION_DENIED' : 'FAILED_PRECONDITION';
    this.#fail(
      entry,
      etcdError(message === '' ? 'the watch was canceled' : message, status, `watch ${what}`),
    );
  }
}
