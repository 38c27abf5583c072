/** Credentials of gRPC that are made anew for each connection. */
import { ChannelCredentials } from '@grpc/grpc-js';

import type { Pems, PemTexts } from './pems.js';

type Creating = ChannelCredentials['_createSecureConnector'];
type Connector = ReturnType<Creating>;

/**
 * gRPC asks its credentials once for each subchannel, and their connector before each connection: what that hands on is
 * made from what the sources say then. While they cannot be had, or do not belong together because they are being
 * replaced, the last that could be used is.
 */
export class FreshCredentials extends ChannelCredentials {
  readonly #pems: Pems;
  readonly #make: (texts: PemTexts) => ChannelCredentials;
  #last: ChannelCredentials | undefined;

  constructor(pems: Pems, make: (texts: PemTexts) => ChannelCredentials) {
    super();
    this.#pems = pems;
    this.#make = make;
  }

  _isSecure(): boolean {
    return true;
  }

  _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  _createSecureConnector(...args: Parameters<Creating>): Connector {
    let next: Connector | undefined;
    // It has no certificates, and makes no connection: it only knows what belongs to each call.
    const none = ChannelCredentials.createInsecure()._createSecureConnector(...args);
    return {
      connect: (socket) => next?.connect(socket) ?? Promise.reject(new Error('it is not ready')),
      destroy: () => next?.destroy(),
      getCallCredentials: () => none.getCallCredentials(),
      waitForReady: async () => {
        next = (await this.#fresh())._createSecureConnector(...args);
      },
    };
  }

  async #fresh(): Promise<ChannelCredentials> {
    try {
      this.#last = this.#make(await this.#pems.read());
      return this.#last;
    } catch (error) {
      if (this.#last === undefined) throw error;
      return this.#last;
    }
  }
}
