/** An answer that comes in parts: one request, and a stream of one member's replies. */
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';

import { hasCode } from '../../errors/conclave-error.js';
import type { ClientRpc } from '../../proto/rpc.js';
import { onAbort, orAborted } from '../../util/abort.js';
import type { Endpoint } from './endpoint.js';
import { readFailure } from './status.js';
import type { TokenSource } from './token.js';

/** What is asked, and of whom. */
export interface PartsCall<Request, Reply> {
  readonly rpc: ClientRpc<Request, Reply>;
  readonly request: NoInfer<Request>;
  /** The operation and its key, for error messages. */
  readonly what: string;
  /** The key alone, for `error.key`. */
  readonly key?: string | undefined;
  /** Ask this member and no other. */
  readonly endpoint?: Endpoint | undefined;
  /** Ends the stream. It must abort on every path, also once all parts have come. */
  readonly signal: AbortSignal;
}

/** The parts as they come. They are fetched no faster than they are asked for, by as much as HTTP/2 lets through ahead. */
export interface Parts<Reply> {
  /** The next part; undefined at the end. Rejects when the stream fails, and with the signal's reason once that has aborted. */
  next(): Promise<Reply | undefined>;
}

/** Where streams are opened: the connection. */
interface Opener {
  readonly token: TokenSource;
  download<Request, Reply>(
    rpc: ClientRpc<Request, Reply>,
    request: Request,
    options: { readonly signal: AbortSignal; readonly endpoint: Endpoint | undefined },
  ): Promise<{ readonly stream: ClientReadableStream<Reply>; readonly endpoint: Endpoint }>;
}

/** Opens the stream and waits for its first part, with a new token if the first one is refused. */
export async function openParts<Request, Reply>(
  opener: Opener,
  call: PartsCall<Request, Reply>,
): Promise<Parts<Reply>> {
  const { endpoint: asked, signal } = call;
  for (let refusals = 0; ; refusals++) {
    const { endpoint, stream } = await opener.download(call.rpc, call.request, { endpoint: asked, signal });
    const token = opener.token.current;
    stream.on('error', () => undefined); // The iterator tells; nobody listens once the reader has left.
    onAbort(signal, () => stream.cancel());
    const arriving = stream[Symbol.asyncIterator]() as AsyncIterator<Reply, undefined>;
    try {
      let first: { readonly part: Reply | undefined } | undefined = {
        part: await nextOf(arriving, call, endpoint),
      };
      return {
        next: async () => {
          if (first === undefined) return await nextOf(arriving, call, endpoint);
          const { part } = first;
          first = undefined;
          return part;
        },
      };
    } catch (error) {
      const refused = hasCode(error, 'INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION', 'USER_EMPTY');
      const mayPass = opener.token.renewable || hasCode(error, 'AUTH_OLD_REVISION');
      if (!refused || !mayPass || refusals > 1) throw error;
      opener.token.drop(token);
    }
  }
}

async function nextOf<Reply>(
  parts: AsyncIterator<Reply, undefined>,
  { key, signal, what }: Pick<PartsCall<unknown, Reply>, 'key' | 'signal' | 'what'>,
  endpoint: Endpoint,
): Promise<Reply | undefined> {
  signal.throwIfAborted();
  try {
    return (await orAborted(parts.next(), signal)).value;
  } catch (error) {
    signal.throwIfAborted();
    throw readFailure(error as ServiceError, what, endpoint, { key }).error;
  }
}
