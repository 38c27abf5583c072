/** What the client of a namespace stands on: the connection and streams of another client, seen through a prefix. */
import { ConclaveError } from '../errors/conclave-error.js';
import type { Bytes } from '../util/bytes.js';
import type { ClientBase, ClusterBase } from './client-base.js';
import { type Farewell, sayFarewell } from './farewells.js';
import { KeyPrefix } from './namespace/key-prefix.js';
import { NamespaceLink } from './namespace/namespace-link.js';
import { NamespaceWatches } from './namespace/namespace-watches.js';

export class NamespaceBase implements ClientBase {
  readonly link: NamespaceLink;
  readonly watches: NamespaceWatches;
  readonly #outer: ClientBase;
  readonly #closing = new AbortController();
  readonly #farewells = new Set<Farewell>();
  #stopOuter: (() => void) | undefined;

  /** `outer`: what it is a namespace of, which knows nothing of one that has no last calls to make. */
  constructor(outer: ClientBase, prefix: Bytes) {
    const keys = new KeyPrefix(prefix);
    const closed = AbortSignal.any([this.#closing.signal, outer.link.closed]);
    this.link = new NamespaceLink(outer.link, keys, closed);
    this.watches = new NamespaceWatches(outer.watches, keys, closed);
    this.#outer = outer;
  }

  get whole(): ClusterBase {
    return this.#outer.whole;
  }

  beforeClose(farewell: Farewell): () => void {
    this.#stopOuter ??= this.#outer.beforeClose(() => sayFarewell(this.#farewells, this.link.clock));
    this.#farewells.add(farewell);
    return () => this.#farewells.delete(farewell);
  }

  async close(): Promise<void> {
    await sayFarewell(this.#farewells, this.link.clock);
    this.#stopOuter?.();
    this.#closing.abort(new ConclaveError('CLOSED', 'the client of the namespace is closed'));
  }
}
