/** Reads an etcd v2 store over its HTTP API (etcd 3.4 and 3.5 with --enable-v2, and all before them). */
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { buffer } from 'node:stream/consumers';
import type { ConnectionOptions } from 'node:tls';

import { parseEndpoint } from '../../etcd/transport/address.js';
import type { Target } from '../connect.js';

/** A server that says nothing for so long is given up. etcd itself answers a quorum read within 5 s, if only with an error. */
const SILENCE_MS = 15_000;

/** A node as v2 sends it. */
export interface V2Node {
  /** The root has none. */
  readonly key?: string;
  readonly value?: string;
  readonly dir?: boolean;
  readonly nodes?: readonly V2Node[];
  /** Seconds left, rounded up; absent when it is 0. */
  readonly ttl?: number;
  readonly expiration?: string;
}

/** What a path was, and the store's index. */
export interface V2Answer {
  readonly node: V2Node;
  readonly index: bigint;
}

/** The v2 store cannot be read; the message says why and what to do. */
export class V2Error extends Error {
  override readonly name = 'V2Error';
}

/** No member has it now, so another one may be asked. */
class Unreachable extends V2Error {}

interface Reply {
  readonly status: number;
  readonly index: string | undefined;
  readonly body: string;
}

/** An etcd's v2 store. Every read is decided by the quorum, so no member can answer with an old state. */
export class V2Store {
  readonly #from: Target;

  constructor(from: Target) {
    this.#from = from;
  }

  /**
   * Reads a path; with `recursive` all that is below it, as of one moment. v2 leaves out what begins with `_` below it.
   * undefined: there is no such path. Rejects with V2Error, and with the signal's reason.
   */
  async read(
    path: string,
    { recursive, signal }: { readonly recursive: boolean; readonly signal: AbortSignal },
  ): Promise<V2Answer | undefined> {
    let last: unknown;
    for (const endpoint of this.#from.endpoints) {
      try {
        return answerOf(await this.#ask(endpoint, { path, recursive, signal }), { endpoint, path });
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Unreachable)) throw error;
        last = error;
      }
    }
    throw last;
  }

  async #ask(
    endpoint: string,
    { path, recursive, signal }: { path: string; recursive: boolean; signal: AbortSignal },
  ): Promise<Reply> {
    const { auth, tls } = this.#from;
    const { host, place, secure } = parseEndpoint(endpoint, tls !== undefined);
    const where = 'path' in place ? { socketPath: place.path } : { host, port: portOf(place) };
    const name = path.slice(1).split('/').map(encodeURIComponent).join('/');
    const options = {
      ...where,
      agent: false,
      path: `/v2/keys/${name}?quorum=true&sorted=true&recursive=${recursive}`,
      signal,
      timeout: SILENCE_MS,
      ...(auth === undefined ? {} : { auth: `${auth.username}:${asText(auth.password)}` }),
    };
    const security = secure ? await this.#security() : {};
    try {
      return await new Promise<Reply>((resolve, reject) => {
        const onReply = (reply: IncomingMessage): void => {
          buffer(reply).then((body) => resolve(replyOf(reply, body.toString())), reject);
        };
        const asked = secure
          ? tlsRequest({ ...options, ...security }, onReply)
          : plainRequest(options, onReply);
        asked.on('timeout', () => asked.destroy(new Error(`no answer within ${SILENCE_MS / 1000} s`)));
        asked.on('error', reject);
        asked.end();
      });
    } catch (error) {
      throw new Unreachable(`${endpoint}: ${reasonOf(error)}`, { cause: error });
    }
  }

  async #security(): Promise<ConnectionOptions> {
    const { caFile, certFile, keyFile } = this.#from.tls ?? {};
    const read = async (file: string | undefined): Promise<Buffer | undefined> =>
      file === undefined ? undefined : await readFile(file);
    const [ca, cert, key] = await Promise.all([read(caFile), read(certFile), read(keyFile)]);
    return {
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    };
  }
}

function portOf(place: object): number | undefined {
  return 'port' in place && typeof place.port === 'number' ? place.port : undefined;
}

function asText(password: unknown): string {
  return typeof password === 'string' ? password : '';
}

function replyOf({ headers, statusCode = 0 }: IncomingMessage, body: string): Reply {
  const index = headers['x-etcd-index'];
  return { body, index: typeof index === 'string' ? index : undefined, status: statusCode };
}

function reasonOf(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'ECONNREFUSED') return 'nothing listens there; check --from or --endpoints';
  if (code === 'ENOTFOUND') return 'there is no such host; check --from or --endpoints';
  if (code === 'EPROTO' || /before secure TLS/.test(message))
    return 'it does not speak TLS, or not with us; check http:// and https://';
  if (/^(ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/.test(code)) return `${message}; check --cacert`;
  return code === '' ? message : `${message} (${code})`;
}

/** What was answered, or the V2Error that says what to do about it. */
function answerOf(
  { body, index, status }: Reply,
  { endpoint, path }: { readonly endpoint: string; readonly path: string },
): V2Answer | undefined {
  const at = `${endpoint}: `;
  if (status === 401)
    throw new V2Error(`${at}the v2 store wants a user that may read ${path}: give --from-user NAME:PASSWORD`);
  const json = readJson(body);
  if (json === undefined || (json.node === undefined && json.errorCode === undefined)) {
    if (status >= 500) throw new Unreachable(`${at}answered HTTP ${status}: ${body.trim().slice(0, 100)}`);
    throw new V2Error(
      `${at}no v2 API is there (HTTP ${status}): etcd 3.4 and 3.5 have it when started with --enable-v2, later ones have none`,
    );
  }
  // In v2, 104 too says that there is no such path: a file stands on the way.
  if (json.errorCode === 100 || json.errorCode === 104) return undefined;
  if (json.errorCode !== undefined || json.node === undefined || index === undefined) {
    const text = `${at}v2 answered ${String(json.errorCode)}: ${String(json.message)} (${String(json.cause)})`;
    throw status >= 500 ? new Unreachable(text) : new V2Error(text);
  }
  return { index: BigInt(index), node: json.node };
}

interface Json {
  readonly node?: V2Node;
  readonly errorCode?: number;
  readonly message?: string;
  readonly cause?: string;
}

/**
 * The JSON of an answer. What is not UTF-8 in a name or value Go writes as the six letters `\ufffd`, a real U+FFFD as
 * itself: the former becomes half a surrogate pair, which no text can be, so that it can be told.
 */
function readJson(body: string): Json | undefined {
  const marked = body.replaceAll(/\\(?:ufffd|.)/gs, (each) => (each === '\\ufffd' ? '\\ud800' : each));
  try {
    const json: unknown = JSON.parse(marked);
    return typeof json === 'object' && json !== null ? json : undefined;
  } catch {
    return undefined;
  }
}
