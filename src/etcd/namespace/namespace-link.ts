/** The calls of a namespace: those of the client it is of, with the prefix put before keys and taken off again. */
import type { LeaseTimeToLiveResponse } from '../../proto/messages.gen.js';
import type { ClientRpc } from '../../proto/rpc.js';
import { services } from '../../proto/services.js';
import type { Call } from '../transport/call.js';
import type { Endpoint } from '../transport/endpoint.js';
import type { Link } from '../transport/link.js';
import type { Parts, PartsCall } from '../transport/parts.js';
import type { KeyPrefix } from './key-prefix.js';

/** How a call's request and reply are those of a namespace. */
interface Translation<Request, Reply> {
  readonly request: (request: Request, prefix: KeyPrefix) => Request;
  readonly reply: (reply: Reply, prefix: KeyPrefix) => Reply;
}

type Translate = <Request, Reply>(
  rpc: ClientRpc<Request, Reply>,
  translation: Translation<NoInfer<Request>, NoInfer<Reply>>,
) => void;

let translations: ReadonlyMap<unknown, unknown> | undefined;

/** By rpc. Made when the first call needs them: whoever only loads the package does not load the descriptors. */
function translationOf<Request, Reply>(
  rpc: ClientRpc<Request, Reply>,
): Translation<Request, Reply> | undefined {
  translations ??= makeTranslations();
  return translations.get(rpc) as Translation<Request, Reply> | undefined;
}

function makeTranslations(): ReadonlyMap<unknown, unknown> {
  const made = new Map<unknown, unknown>();
  const translate: Translate = (rpc, translation) => void made.set(rpc, translation);
  const { KV, Lease } = services;
  translate(KV.Range, {
    reply: (reply, prefix) => prefix.ranged(reply),
    request: (request, prefix) => prefix.keyed(request),
  });
  translate(KV.RangeStream, {
    reply: (reply, prefix) =>
      reply.rangeResponse === null ? reply : { rangeResponse: prefix.ranged(reply.rangeResponse) },
    request: (request, prefix) => prefix.keyed(request),
  });
  translate(KV.Put, {
    reply: (reply, prefix) => prefix.written(reply),
    request: (request, prefix) => prefix.keyed(request),
  });
  translate(KV.DeleteRange, {
    reply: (reply, prefix) => prefix.deleted(reply),
    request: (request, prefix) => prefix.keyed(request),
  });
  translate(KV.Txn, {
    reply: (reply, prefix) => prefix.answered(reply),
    request: (request, prefix) => prefix.txn(request),
  });
  translate(Lease.LeaseTimeToLive, {
    reply: (reply: LeaseTimeToLiveResponse, prefix) => {
      const keys = reply.keys.filter((key) => prefix.has(key)).map((key) => prefix.shortKey(key));
      return { ...reply, keys };
    },
    request: (request) => request,
  });
  return made;
}

export class NamespaceLink implements Link {
  readonly closed: AbortSignal;
  readonly #outer: Link;
  readonly #prefix: KeyPrefix;

  /** `closed`: aborts when either client is closed. */
  constructor(outer: Link, prefix: KeyPrefix, closed: AbortSignal) {
    this.#outer = outer;
    this.#prefix = prefix;
    this.closed = closed;
  }

  get clock(): Link['clock'] {
    return this.#outer.clock;
  }

  get endpoints(): Link['endpoints'] {
    return this.#outer.endpoints;
  }

  get timeoutMs(): number {
    return this.#outer.timeoutMs;
  }

  get token(): Link['token'] {
    return this.#outer.token;
  }

  endpoint(url: string): Endpoint {
    return this.#outer.endpoint(url);
  }

  async unary<Request, Reply>(call: Call<Request, Reply>): Promise<Reply> {
    this.closed.throwIfAborted();
    const translation = translationOf(call.rpc);
    if (translation === undefined) return this.#outer.unary(call);
    const request = translation.request(call.request, this.#prefix);
    return translation.reply(await this.#outer.unary({ ...call, request }), this.#prefix);
  }

  async parts<Request, Reply>(call: PartsCall<Request, Reply>): Promise<Parts<Reply> | undefined> {
    this.closed.throwIfAborted();
    const translation = translationOf(call.rpc);
    if (translation === undefined) return this.#outer.parts(call);
    const request = translation.request(call.request, this.#prefix);
    const parts = await this.#outer.parts({ ...call, request });
    if (parts === undefined) return undefined;
    return {
      next: async () => {
        const part = await parts.next();
        return part === undefined ? undefined : translation.reply(part, this.#prefix);
      },
    };
  }
}
