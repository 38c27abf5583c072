import {
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { type CallBook, type CallFault } from './call-faults.js';
import { MessageFramer, payloadOf } from './message-framer.js';

type RequestPart = { readonly kind: 'message'; readonly message: Buffer } | { readonly kind: 'end' };

type ReplyPart =
  | { readonly kind: 'headers'; readonly headers: OutgoingHttpHeaders; readonly isLast: boolean }
  | { readonly kind: 'message'; readonly message: Buffer }
  | { readonly kind: 'end'; readonly trailers: OutgoingHttpHeaders }
  | { readonly kind: 'reset'; readonly code: number };

/** The two ends of a call and where it is looked up and counted. */
export interface RelayedCallSetup {
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  readonly client: ServerHttp2Stream;
  readonly server: ClientHttp2Stream;
  readonly book: CallBook;
  /** Resets the client's whole connection. */
  readonly cut: () => void;
}

/** One rpc on its way through the relay, message by message, both ways. */
export class RelayedCall {
  readonly #setup: RelayedCallSetup;
  readonly #requestLine: RequestPart[] = [];
  readonly #replyLine: ReplyPart[] = [];
  #requestsHeld = false;
  #repliesHeld = false;
  #requestEnded = false;
  /** Nothing more is handed to the client. */
  #isMute = false;
  /** Its reply is to be lost. */
  #swallowing: CallFault | undefined;

  constructor(setup: RelayedCallSetup) {
    this.#setup = setup;
    this.#listenToClient();
    this.#listenToServer();
  }

  #listenToClient(): void {
    const { client, server } = this.#setup;
    const framer = new MessageFramer();
    client.on('data', (chunk: Buffer) => {
      for (const message of framer.push(chunk)) this.#onRequest({ kind: 'message', message });
    });
    client.on('end', () => {
      this.#requestEnded = true;
      this.#onRequest({ kind: 'end' });
    });
    client.on('drain', () => server.resume());
    client.on('error', () => undefined);
    client.on('close', () => {
      // An end is passed on as an end; this is a cancelled call.
      if (!server.closed && (client.aborted || client.rstCode !== 0)) {
        server.close(client.rstCode || constants.NGHTTP2_CANCEL);
      }
    });
  }

  #listenToServer(): void {
    const { client, server } = this.#setup;
    const framer = new MessageFramer();
    let trailers: OutgoingHttpHeaders | undefined;
    let ended = false;
    let finished = false;
    const finish = (last: ReplyPart): void => {
      if (!finished) this.#onReply(last);
      finished = true;
    };
    server.on('response', (headers, flags) => {
      const isLast = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      this.#onReply({ kind: 'headers', headers: plain(headers), isLast });
      finished ||= isLast;
    });
    server.on('data', (chunk: Buffer) => {
      for (const message of framer.push(chunk)) this.#onReply({ kind: 'message', message });
    });
    server.on('trailers', (headers: IncomingHttpHeaders) => {
      trailers = plain(headers);
      if (ended) finish({ kind: 'end', trailers });
    });
    server.on('end', () => {
      ended = true;
      if (trailers !== undefined) finish({ kind: 'end', trailers });
    });
    server.on('drain', () => client.resume());
    server.on('error', () => undefined);
    server.on('close', () => {
      if (ended && server.rstCode === 0) finish({ kind: 'end', trailers: trailers ?? {} });
      else finish({ kind: 'reset', code: server.rstCode || constants.NGHTTP2_CANCEL });
    });
  }

  #onRequest(part: RequestPart): void {
    if (this.#requestsHeld) this.#requestLine.push(part);
    else if (part.kind === 'message') this.#decideRequest(part);
    else if (!this.#isMute || this.#swallowing !== undefined) this.#setup.server.end();
  }

  #decideRequest(part: RequestPart & { readonly kind: 'message' }): void {
    const { book, path } = this.#setup;
    if (this.#isMute) return;
    const fault = book.match('request', path, payloadOf(part.message));
    switch (fault?.action) {
      case 'holdRequest':
        this.#requestsHeld = true;
        this.#requestLine.push(part);
        fault.hold(() => this.#releaseRequests());
        return;
      case 'dropRequest':
        this.#lose(fault);
        return;
      case 'fail':
        this.#fail(fault);
        return;
      case 'dropReply':
        this.#swallowing = fault;
        break;
      default:
    }
    // What a fault has struck is not late as well.
    if (fault === undefined && this.#isLate(part.message)) return;
    this.#forward(part.message);
  }

  /** Whether the request is on its way for longer than the client will wait. */
  #isLate(message: Buffer): boolean {
    const { book, client, headers, path, server } = this.#setup;
    if (book.late?.take(path, message, headers) !== 'first') return false;
    this.#isMute = true;
    server.close(constants.NGHTTP2_CANCEL);
    client.close(constants.NGHTTP2_INTERNAL_ERROR);
    return true;
  }

  #forward(message: Buffer): void {
    const { book, path, server, client } = this.#setup;
    if (server.destroyed || server.closed) return;
    if (!server.write(message)) client.pause();
    book.count('request', path);
  }

  #releaseRequests(): void {
    this.#requestsHeld = false;
    const [first, ...rest] = this.#requestLine.splice(0);
    // The first was decided on when it was held.
    if (first?.kind === 'message') this.#forward(first.message);
    for (const part of rest) this.#onRequest(part);
  }

  #onReply(part: ReplyPart): void {
    const { book, path } = this.#setup;
    if (this.#isMute) return;
    if (this.#swallowing !== undefined) {
      const isWhole = this.#requestEnded ? isEnd(part) : part.kind === 'message' || isEnd(part);
      if (isWhole) this.#lose(this.#swallowing);
      return;
    }
    if (!this.#repliesHeld) {
      const fault = book.match('reply', path, part.kind === 'message' ? payloadOf(part.message) : undefined);
      if (fault === undefined) {
        this.#handBack(part);
        return;
      }
      this.#repliesHeld = true;
      this.#replyLine.push(part);
      fault.hold(() => this.#releaseReplies());
      return;
    }
    this.#replyLine.push(part);
  }

  #releaseReplies(): void {
    this.#repliesHeld = false;
    const [first, ...rest] = this.#replyLine.splice(0);
    if (first !== undefined) this.#handBack(first);
    for (const part of rest) this.#onReply(part);
  }

  #handBack(part: ReplyPart): void {
    const { book, client, path, server } = this.#setup;
    if (client.destroyed || client.closed) return;
    switch (part.kind) {
      case 'headers':
        client.respond(part.headers, part.isLast ? { endStream: true } : { waitForTrailers: true });
        return;
      case 'message':
        if (!client.write(part.message)) server.pause();
        book.count('reply', path);
        return;
      case 'end':
        this.#endWith(part.trailers);
        return;
      case 'reset':
        client.close(part.code);
    }
  }

  #endWith(trailers: OutgoingHttpHeaders): void {
    const { client } = this.#setup;
    client.once('wantTrailers', () => client.sendTrailers(trailers));
    client.end();
  }

  /** The call is lost, and the client learns of it in the fault's way. */
  #lose(fault: CallFault): void {
    const { client, cut } = this.#setup;
    this.#isMute = true;
    if (fault.then === 'cut') cut();
    else if (fault.then === 'reset') client.close(constants.NGHTTP2_INTERNAL_ERROR);
    fault.strike();
  }

  #fail(fault: CallFault): void {
    const { client, server } = this.#setup;
    const status = {
      'grpc-status': String(fault.status.code),
      'grpc-message': encodeURI(fault.status.message),
    };
    this.#isMute = true;
    server.close(constants.NGHTTP2_CANCEL);
    if (client.headersSent) this.#endWith(status);
    else
      client.respond({ ':status': 200, 'content-type': 'application/grpc', ...status }, { endStream: true });
    fault.strike();
  }
}

function isEnd(part: ReplyPart): boolean {
  return part.kind === 'end' || part.kind === 'reset' || (part.kind === 'headers' && part.isLast);
}

/** Headers as they came, without node's own marks. */
function plain(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers));
}
