/** Who we are to etcd, and the token that proves it. */
import { hasCode } from '../../errors/conclave-error.js';

/** Who we are to etcd. */
export interface AuthOptions {
  readonly username: string;
  readonly password: string;
}

type State =
  | { readonly phase: 'unknown' }
  | { readonly phase: 'fetching'; readonly fetched: Promise<string | undefined> }
  /** `token` is undefined where the server has authentication switched off. */
  | { readonly phase: 'known'; readonly token: string | undefined };

/**
 * The token that proves who we are: fetched on the first call, fetched anew when a server refuses it. However many
 * calls find it refused at once, one request is made. That a server wants none is remembered as well, until one does.
 */
export class TokenSource {
  readonly #authenticate: (() => Promise<string>) | undefined;
  #state: State;

  /** Without `authenticate` there is never a token. */
  constructor(authenticate: (() => Promise<string>) | undefined) {
    this.#authenticate = authenticate;
    this.#state = authenticate === undefined ? { phase: 'known', token: undefined } : { phase: 'unknown' };
  }

  /** Whether a refused token can be replaced. */
  get renewable(): boolean {
    return this.#authenticate !== undefined;
  }

  /** Whether there is nothing to wait for. */
  get known(): boolean {
    return this.#state.phase === 'known';
  }

  /** The token, when there is one and nothing to wait for. */
  get current(): string | undefined {
    return this.#state.phase === 'known' ? this.#state.token : undefined;
  }

  /** The token to send; undefined without a user, or when the server has authentication switched off. */
  async get(): Promise<string | undefined> {
    if (this.#state.phase === 'known') return this.#state.token;
    if (this.#state.phase === 'fetching') return this.#state.fetched;
    const fetched = this.#fetch();
    this.#state = { fetched, phase: 'fetching' };
    return fetched;
  }

  /** Forgets `refused`, the token that a call was sent with, unless it has been replaced meanwhile. */
  drop(refused: string | undefined): void {
    const state = this.#state;
    if (this.renewable && state.phase === 'known' && state.token === refused)
      this.#state = { phase: 'unknown' };
  }

  async #fetch(): Promise<string | undefined> {
    try {
      const token = await this.#authenticate?.();
      this.#state = { phase: 'known', token };
      return token;
    } catch (error) {
      if (!hasCode(error, 'AUTH_NOT_ENABLED')) {
        this.#state = { phase: 'unknown' };
        throw error;
      }
      this.#state = { phase: 'known', token: undefined };
      return undefined;
    }
  }
}
