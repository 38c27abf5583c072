// A member that answers what it is told to, down to the frames of HTTP/2: what no etcd can be made to say.
import { once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type Clock, systemClock } from '#conclave/util/clock.js';

/** What comes back for a call. */
export type WireAnswer =
  /** A reply; with no fields set unless `message` says otherwise. */
  | { readonly reply: Buffer }
  /** A gRPC status, as a server sends it. */
  | { readonly status: number; readonly message: string }
  | { readonly rst: number }
  | { readonly goaway: number }
  | { readonly http: number; readonly body?: string }
  /** Headers, then the end: no trailers. */
  | { readonly cutShort: true }
  /** The connection is destroyed. */
  | { readonly cut: true };

/** Decides on the answer to a call; may take its time. */
export type Answering = (path: string, nth: number) => WireAnswer | Promise<WireAnswer>;

export const OK: WireAnswer = { reply: Buffer.alloc(0) };

/** The calls that a member was asked for a sign of life with. */
export const HEALTH = '/grpc.health.v1.Health/Check';

/** A fake member on a port of its own. */
export class FakeMember implements AsyncDisposable {
  /** How each call is answered; by default with an empty reply. */
  answer: Answering = () => OK;
  /** Whether it takes connections and calls, but answers nothing, not even whether it is alive. */
  frozen = false;
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #requests: string[] = [];

  private constructor(server: Http2Server) {
    this.#server = server;
    server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
      session.on('error', () => undefined);
    });
    server.on('stream', (stream, headers) => void this.#serve(stream, headers[':path'] ?? ''));
  }

  static async start(): Promise<FakeMember> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new FakeMember(server);
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many calls of `path` have come, or of any but those for a sign of life. */
  requests(path?: string): number {
    return this.#requests.filter((each) => (path === undefined ? each !== HEALTH : each === path)).length;
  }

  async #serve(stream: ServerHttp2Stream, path: string): Promise<void> {
    this.#requests.push(path);
    const nth = this.requests(path);
    stream.on('error', () => undefined);
    stream.resume();
    await once(stream, 'end').catch(() => undefined);
    if (this.frozen) return;
    const answer = path === HEALTH ? OK : await this.answer(path, nth);
    if (!stream.destroyed) send(stream, answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const GRPC = { ':status': 200, 'content-type': 'application/grpc' } as const;

function send(stream: ServerHttp2Stream, answer: WireAnswer): void {
  const { session } = stream;
  if ('reply' in answer) {
    stream.respond(GRPC, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(answer.reply.length, 1);
    stream.end(Buffer.concat([frame, answer.reply]));
  } else if ('status' in answer) {
    const status = { 'grpc-message': encodeURI(answer.message), 'grpc-status': String(answer.status) };
    stream.respond({ ...GRPC, ...status }, { endStream: true });
  } else if ('rst' in answer) {
    stream.close(answer.rst);
  } else if ('goaway' in answer) {
    session?.goaway(answer.goaway);
    session?.destroy();
  } else if ('http' in answer) {
    stream.respond({ ':status': answer.http, 'content-type': 'text/html' });
    stream.end(answer.body ?? '');
  } else if ('cutShort' in answer) {
    stream.respond(GRPC);
    stream.end();
  } else {
    session?.destroy();
  }
}

/** How much time passes with an answer, by `countingClock`. */
export const STEP_MS = 2500;
/** The longest pause between two tries. */
const PAUSE_MS = 400;

/** A clock by which every answer takes its time, and pauses take none: a deadline comes after as many tries on any machine. */
export function countingClock(answers: () => number): Clock {
  return {
    now: () => 1000 + STEP_MS * answers(),
    setTimer: (delayMs, fire) => systemClock.setTimer(delayMs > PAUSE_MS ? 2 ** 31 : 0, fire),
    wall: () => 0,
  };
}
