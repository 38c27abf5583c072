import { accessSync, constants } from 'node:fs';
import path from 'node:path';

import type { ErrorCode } from '../errors/codes.js';
import type { ConclaveError } from '../errors/conclave-error.js';
import type { ClientOptions } from '../etcd/client-options.js';
import { parseEndpoint } from '../etcd/transport/address.js';
import type { TlsOptions } from '../etcd/transport/tls.js';
import type { AuthOptions } from '../etcd/transport/token.js';
import { type Flag, type Typed, UsageError } from './usage.js';

export const DEFAULT_ENDPOINT = '127.0.0.1:2379';

/** The options of every command that talks to a server. */
export const CONNECT_FLAGS = {
  endpoints: {
    value: 'A,B',
    help: `the members, host:port or URL (env CONCLAVE_ENDPOINTS, ETCDCTL_ENDPOINTS;\ndefault ${DEFAULT_ENDPOINT})`,
  },
  cacert: { value: 'FILE', help: 'trust this authority, for TLS (env ETCDCTL_CACERT)' },
  cert: { value: 'FILE', help: 'our certificate, when the server asks for one (env ETCDCTL_CERT)' },
  key: { value: 'FILE', help: "our certificate's key (env ETCDCTL_KEY)" },
  user: { value: 'NAME[:PASSWORD]', help: 'who we are (env CONCLAVE_USER, ETCDCTL_USER)' },
  password: { value: 'PASSWORD', help: 'better in env CONCLAVE_PASSWORD or ETCDCTL_PASSWORD' },
} as const satisfies Record<string, Flag>;

export type ConnectFlag = keyof typeof CONNECT_FLAGS;

/** What a client needs, in a form that can be sent to another process. */
export type Target = Pick<ClientOptions, 'tls' | 'auth'> & { readonly endpoints: readonly string[] };

export type Env = Readonly<Record<string, string | undefined>>;

/** The first of the variables that is set to something. */
export function fromEnv(env: Env, ...names: readonly string[]): string | undefined {
  return names.map((name) => env[name]).find((value) => value !== undefined && value !== '');
}

/** The server that was named, by options first and the environment second; undefined endpoints mean the default. */
export function readTarget(typed: Typed<ConnectFlag>, env: Env = process.env): Target {
  const tls = readTls(typed, env);
  const named = typed.text('endpoints') ?? fromEnv(env, 'CONCLAVE_ENDPOINTS', 'ETCDCTL_ENDPOINTS');
  const endpoints = (named ?? DEFAULT_ENDPOINT).split(',').map((endpoint) => endpoint.trim());
  for (const endpoint of endpoints) checkEndpoint(endpoint, tls !== undefined);
  const auth = readAuth(typed, env);
  return { endpoints, ...(tls && { tls }), ...(auth && { auth }) };
}

/** Whether endpoints were named at all, by option only. */
export function namesEndpoints(typed: Typed<ConnectFlag>): boolean {
  return typed.text('endpoints') !== undefined;
}

/** Throws UsageError for what is no endpoint. */
export function checkEndpoint(endpoint: string, tls: boolean): void {
  try {
    parseEndpoint(endpoint, tls);
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(error.message) : error;
  }
}

function readTls(typed: Typed<ConnectFlag>, env: Env): TlsOptions | undefined {
  const fileOf = (flag: 'cacert' | 'cert' | 'key', variable: string): string | undefined => {
    const file = typed.text(flag) ?? fromEnv(env, variable);
    if (file === undefined) return undefined;
    try {
      accessSync(file, constants.R_OK);
      return path.resolve(file);
    } catch (error) {
      const { code = 'unknown error' } = error as NodeJS.ErrnoException;
      throw new UsageError(`--${flag} ${file} cannot be read: ${code}`);
    }
  };
  const caFile = fileOf('cacert', 'ETCDCTL_CACERT');
  const certFile = fileOf('cert', 'ETCDCTL_CERT');
  const keyFile = fileOf('key', 'ETCDCTL_KEY');
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new UsageError('--cert and --key go together');
  return caFile === undefined && certFile === undefined ? undefined : { caFile, certFile, keyFile };
}

function readAuth(typed: Typed<ConnectFlag>, env: Env): AuthOptions | undefined {
  const user = typed.text('user') ?? fromEnv(env, 'CONCLAVE_USER', 'ETCDCTL_USER');
  const apart = typed.text('password') ?? fromEnv(env, 'CONCLAVE_PASSWORD', 'ETCDCTL_PASSWORD');
  if (user === undefined) {
    if (typed.text('password') !== undefined) throw new UsageError('--password needs --user NAME');
    return undefined;
  }
  return readUser({ apart, flag: '--user', password: typed.text('password'), user });
}

/** `user` is NAME or NAME:PASSWORD; `password` was given by an option, `apart` that way or by the environment. */
export function readUser({
  apart,
  flag,
  password: typed,
  user,
}: {
  readonly user: string;
  readonly flag: string;
  readonly password: string | undefined;
  readonly apart: string | undefined;
}): AuthOptions {
  const [, username = '', within] = /^([^:]*)(?::(.*))?$/s.exec(user) ?? [];
  if (username === '') throw new UsageError(`${flag} names nobody before its ":"`);
  // A password given apart is a whole one, so a name may then hold a colon, as with etcdctl.
  const password = typed ?? within ?? apart;
  if (password !== undefined) return { password, username: typed === undefined ? username : user };
  const variable = flag === '--user' ? 'CONCLAVE_PASSWORD' : 'CONCLAVE_FROM_PASSWORD';
  throw new UsageError(
    `${flag} ${username} has no password: give ${flag} ${username}:PASSWORD, or set ${variable}`,
  );
}

const ADVICE: Partial<Record<ErrorCode, string>> = {
  NOT_ETCD: 'check --endpoints',
  AUTH_FAILED: 'check --user and the password',
  PERMISSION_DENIED: "the user's roles do not allow it: check --user, or grant the role these keys",
  USER_EMPTY: 'this server wants a user: give --user NAME:PASSWORD',
};

/** What went wrong between us and the server, in one line that says what to do. */
export function explain(error: ConclaveError, target: Target): string {
  const { message } = error;
  if (error.code === 'TLS_FAILED') {
    return `${message.replace(/; check tls\..*$/, '')}; check --cacert, --cert and the server's name`;
  }
  const unreachable = error.code === 'UNAVAILABLE' || error.code === 'DEADLINE_EXCEEDED';
  if (unreachable && target.endpoints.join() === DEFAULT_ENDPOINT) {
    return `${message}; start etcd or: ${ourName()} serve; or name a server with --endpoints`;
  }
  const advice = unreachable ? 'check --endpoints' : ADVICE[error.code];
  return advice === undefined ? message : `${message}; ${advice}`;
}

/** How this command is called, to be typed again. */
function ourName(): string {
  return process.env['npm_lifecycle_event'] === 'conclave' ? 'npm run conclave --' : 'conclave';
}
