/** The metadata that goes with calls: who we are. */
import { Metadata } from '@grpc/grpc-js';

import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort, orAborted } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import type { CallOptions, Purpose } from './call.js';
import type { TokenSource } from './token.js';

/** The metadata that goes with calls: the token, if there is one. Made anew only when the token changes. */
export class CallMetadata {
  readonly #token: TokenSource;
  readonly #clock: Clock;
  #last: { readonly token: string | undefined; readonly metadata: Metadata } | undefined;

  constructor(token: TokenSource, clock: Clock) {
    this.#token = token;
    this.#clock = clock;
  }

  /** The metadata with the token, which must be there within the call's own time. */
  async within(leftMs: number, { key, signal, what }: Purpose & CallOptions): Promise<Metadata> {
    if (this.#token.known) return this.with(this.#token.current);
    const stop = new AbortController();
    const timer = this.#clock.setTimer(leftMs, () =>
      stop.abort(new ConclaveError('DEADLINE_EXCEEDED', `${what}: nobody answered who we are`, { key })),
    );
    const stopListening = onAbort(signal, (reason) => stop.abort(reason));
    try {
      return await this.get(stop.signal);
    } finally {
      timer.cancel();
      stopListening();
    }
  }

  /** The metadata with the token, however long that takes. */
  async get(signal: AbortSignal | undefined): Promise<Metadata> {
    return this.with(await orAborted(this.#token.get(), signal));
  }

  /** The metadata with this token. */
  with(token: string | undefined): Metadata {
    if (this.#last === undefined || this.#last.token !== token) {
      const metadata = new Metadata();
      if (token !== undefined) metadata.set('token', token);
      this.#last = { metadata, token };
    }
    return this.#last.metadata;
  }
}
