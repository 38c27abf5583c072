import { Client, credentials, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js';

import { EmbeddedServer, type EmbeddedServerOptions } from '#conclave/embedded/index.js';
import type { Rpc } from '#conclave/proto/rpc.js';
import { services } from '#conclave/proto/services.js';
import type { WatchRequestInput, WatchResponse } from '#conclave/proto/messages.gen.js';

/** A clock that stands still until it is moved. */
export class TestClock {
  #nowMs = 0;
  #timers = new Set<{ dueMs: number; fire: () => void }>();

  get pending(): number {
    return this.#timers.size;
  }

  now(): number {
    return this.#nowMs;
  }

  wall(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, fire: () => void): { cancel(): void } {
    const timer = { dueMs: this.#nowMs + delayMs, fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Time passes, and no timer fires: the event loop was busy. */
  jump(byMs: number): void {
    this.#nowMs += byMs;
  }

  advance(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      const [next] = [...this.#timers]
        .filter(({ dueMs }) => dueMs <= endMs)
        .sort((a, b) => a.dueMs - b.dueMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.fire();
    }
    this.#nowMs = endMs;
  }
}

/** A server and a bare gRPC client of it. */
export class Bench implements AsyncDisposable {
  readonly server: EmbeddedServer;
  readonly grpc: Client;

  private constructor(server: EmbeddedServer) {
    this.server = server;
    this.grpc = new Client(server.endpoint.replace('http://', ''), credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
    });
  }

  static async start(options: EmbeddedServerOptions = {}): Promise<Bench> {
    return new Bench(await EmbeddedServer.start(options));
  }

  call<In, Out>(rpc: Rpc<In, unknown, never, Out>, request: In): Promise<Out> {
    return new Promise((resolve, reject) => {
      this.grpc.makeUnaryRequest<In, Out>(
        rpc.path,
        rpc.requestSerialize,
        rpc.responseDeserialize,
        request,
        (error: ServiceError | null, response?: Out) => {
          if (error !== null) reject(error);
          else if (response !== undefined) resolve(response);
        },
      );
    });
  }

  async put(key: string, value = '', lease = 0n): Promise<bigint> {
    const { header } = await this.call(services.KV.Put, { key: bytes(key), value: bytes(value), lease });
    return header?.revision ?? 0n;
  }

  async delete(key: string): Promise<bigint> {
    const { deleted } = await this.call(services.KV.DeleteRange, { key: bytes(key) });
    return deleted;
  }

  async get(key: string, revision = 0n): Promise<string | undefined> {
    const { kvs } = await this.call(services.KV.Range, { key: bytes(key), revision });
    return kvs[0]?.value.toString();
  }

  watch(): WatchProbe {
    const { path, requestSerialize, responseDeserialize } = services.Watch.Watch;
    return new WatchProbe(this.grpc.makeBidiStreamRequest(path, requestSerialize, responseDeserialize));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.grpc.close();
    await this.server.close();
  }
}

/** A watch stream: what was sent back, one response at a time. */
export class WatchProbe {
  readonly call: ClientDuplexStream<WatchRequestInput, WatchResponse>;
  readonly ended: Promise<ServiceError>;
  readonly #iterator: AsyncIterator<WatchResponse>;

  constructor(call: ClientDuplexStream<WatchRequestInput, WatchResponse>) {
    this.call = call;
    this.ended = new Promise((resolve) => call.on('error', resolve));
    this.#iterator = call[Symbol.asyncIterator]() as AsyncIterator<WatchResponse>;
  }

  send(request: WatchRequestInput): void {
    this.call.write(request);
  }

  async next(): Promise<WatchResponse> {
    const { value } = (await this.#iterator.next()) as IteratorResult<WatchResponse, undefined>;
    if (value === undefined) throw new Error('the watch stream has ended');
    return value;
  }

  /** The next response in one line: what it is, and its events. */
  async line(): Promise<string> {
    return line(await this.next());
  }

  cancel(): void {
    this.call.cancel();
  }
}

/** A response in one line. */
export function line(response: WatchResponse): string {
  const { watchId, created, canceled, compactRevision, events } = response;
  const words = [String(watchId)];
  if (created) words.push('created');
  if (canceled) words.push('canceled');
  if (compactRevision > 0n) words.push(`compacted ${String(compactRevision)}`);
  for (const { type, kv, prevKv } of events) {
    const before = prevKv === null ? '' : ` was ${prevKv.value.toString()}`;
    words.push(
      `${type} ${kv?.key.toString() ?? ''}=${kv?.value.toString() ?? ''}@${String(kv?.modRevision)}${before}`,
    );
  }
  return words.join(' ');
}

export function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Range end "\0": everything from the key on. */
export const OPEN = Buffer.of(0);
