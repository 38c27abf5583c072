/** Who we are to etcd, and the token that proves it. */
import { hasCode } from '../../errors/conclave-error.js';
import { checkOptions } from '../../util/validate.js';
import type { Given } from './given.js';

/** Who we are to etcd. */
export type AuthOptions =
  | {
      readonly username: string;
      /** Or a function that gives it, whenever a token must be fetched: then it may change while the client lives. */
      readonly password: Given<string>;
      readonly token?: undefined;
    }
  | {
      /** A token that was made elsewhere, such as a JWT; or a function that gives one, asked again when it is refused. */
      readonly token: Given<string>;
      readonly username?: undefined;
      readonly password?: undefined;
    };

/** Refuses, with TypeError, what is not AuthOptions. */
export function checkAuth(auth: AuthOptions): void {
  checkOptions(auth, ['username', 'password', 'token'], 'auth');
  const { password, token, username }: Readonly<Record<string, unknown>> = { ...auth };
  if (token !== undefined) {
    checkSecret(token, 'auth.token');
    if (username !== undefined || password !== undefined)
      throw new TypeError('auth.token is instead of auth.username and auth.password: give one or the other');
    return;
  }
  if (typeof username !== 'string' || username === '')
    throw new TypeError(`auth.username must be a string that is not empty, not ${JSON.stringify(username)}`);
  checkSecret(password, 'auth.password');
}

/** Its value is never shown. */
function checkSecret(secret: unknown, what: string): void {
  if (typeof secret !== 'string' && typeof secret !== 'function')
    throw new TypeError(`${what} must be a string, or a function that gives one, not ${typeof secret}`);
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
  /** Whether who is refused now may be let in later: what proves who we are is asked for anew each time. */
  readonly mayChange: boolean;
  readonly #authenticate: (() => Promise<string>) | undefined;
  #state: State;

  /** Without `authenticate` there is never a token. */
  constructor(authenticate: (() => Promise<string>) | undefined, mayChange = false) {
    this.#authenticate = authenticate;
    this.mayChange = mayChange;
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
