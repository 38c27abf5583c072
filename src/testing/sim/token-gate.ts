/** Users and tokens of the simulated etcd, if it wants any: who comes without a token, or with one it has forgotten, is refused. */
import { status } from '@grpc/grpc-js';

import { services } from '../../proto/services.js';
import { carrierOf } from './carried.js';
import type { Random } from './random.js';

/** Why a call is refused. */
export interface Refusal {
  readonly code: status;
  readonly details: string;
}

/** Who somebody says that he is. */
export interface Login {
  readonly name: string;
  readonly password: string;
}

const INVALID_TOKEN = { code: status.UNAUTHENTICATED, details: 'etcdserver: invalid auth token' };
const NO_USER = { code: status.INVALID_ARGUMENT, details: 'etcdserver: user name is empty' };
const FAILED = {
  code: status.INVALID_ARGUMENT,
  details: 'etcdserver: authentication failed, invalid user ID or password',
};

export class TokenGate {
  /** New watches are refused, as to a user who may not read: those that are there go on. */
  refusesWatches = false;
  readonly #random: Random;
  #users: ReadonlyMap<string, string> | undefined;
  readonly #tokens = new Set<string>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Each user's password; undefined: whoever comes is let in. */
  set users(users: ReadonlyMap<string, string> | undefined) {
    this.#users = users;
  }

  /** All tokens have run out: new ones must be asked for. */
  forget(): void {
    this.#tokens.clear();
  }

  /** Whether a call is for this gate: `Authenticate`, where there are users. */
  isAuthenticate(path: string): boolean {
    return this.#users !== undefined && path === services.Auth.Authenticate.path;
  }

  authenticate({ name, password }: Login): { readonly reply: unknown } | Refusal {
    if (this.#users?.get(name) !== password) return FAILED;
    const token = `${this.#random.id(16)}.${String(this.#tokens.size)}`;
    this.#tokens.add(token);
    return { reply: carrierOf(services.Auth.Authenticate.path).response({ token }) };
  }

  /** Why a call with this token is refused; undefined: it is not. */
  refusal(token: string | undefined): Refusal | undefined {
    if (this.#users === undefined) return undefined;
    if (token === undefined) return NO_USER;
    return this.#tokens.has(token) ? undefined : INVALID_TOKEN;
  }
}
