import { hasCode } from '../errors/conclave-error.js';

/** Who we are to etcd. */
export interface AuthOptions {
  readonly username: string;
  readonly password: string;
}

/**
 * The token that proves who we are: fetched on the first call, fetched anew when a server refuses it. However many
 * calls find it refused at once, one request is made.
 */
export class TokenSource {
  readonly #authenticate: (() => Promise<string>) | undefined;
  #token: string | undefined;
  #fetching: Promise<string | undefined> | undefined;

  /** Without `authenticate` there is never a token. */
  constructor(authenticate: (() => Promise<string>) | undefined) {
    this.#authenticate = authenticate;
  }

  /** Whether a refused token can be replaced. */
  get renewable(): boolean {
    return this.#authenticate !== undefined;
  }

  /** The token, when there is nothing to wait for. */
  get current(): string | undefined {
    return this.#token;
  }

  /** The token to send; undefined without a user, or when the server has authentication switched off. */
  async get(): Promise<string | undefined> {
    if (this.#authenticate === undefined || this.#token !== undefined) return this.#token;
    return this.#fetch(this.#authenticate);
  }

  /** Forgets `refused`, unless it has been replaced meanwhile. */
  drop(refused: string | undefined): void {
    if (this.#token === refused) this.#token = undefined;
  }

  async #fetch(authenticate: () => Promise<string>): Promise<string | undefined> {
    this.#fetching ??= authenticate()
      .catch((error: unknown) => {
        if (hasCode(error, 'AUTH_NOT_ENABLED')) return undefined;
        throw error;
      })
      .then((token) => {
        this.#token = token;
        return token;
      })
      .finally(() => {
        this.#fetching = undefined;
      });
    return this.#fetching;
  }
}
