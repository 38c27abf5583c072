/** What a client is made with. */
import type { Clock } from '../util/clock.js';
import type { Batching } from './kv/kv.js';
import type { TlsOptions } from './transport/tls.js';
import type { AuthOptions } from './transport/token.js';
import type { Transport } from './transport/wire.js';

/** How to reach the cluster. */
export interface ClientOptions {
  /**
   * The members: `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` or `unix:///PATH` (both with TLS if `tls` is given), or
   * `unixs:///PATH`. Several are an array.
   * @default ['http://127.0.0.1:2379']
   */
  readonly endpoints?: readonly string[] | string | undefined;
  /** Certificates: PEM text, functions that give it, or files. */
  readonly tls?: TlsOptions | undefined;
  /**
   * User and password, or a token. The token is fetched on the first call and renewed when a server refuses it. A user who is
   * the common name of our certificate needs neither.
   */
  readonly auth?: AuthOptions | undefined;
  /** How often the endpoints are taken from the member list, in milliseconds. @default never; see `syncEndpoints` */
  readonly syncIntervalMs?: number | undefined;
  /** The deadline of each call, in milliseconds. @default 5000 */
  readonly timeoutMs?: number | undefined;
  /**
   * Which calls on single keys are sent together, as one transaction, when many are made at once; five to ten times as many
   * get through so. `reads`: `kv.get` without `revision`, which changes nothing else. `all`: also `kv.put` and `kv.delete`;
   * those that were sent together share one revision, so leave it out where each write's revision must be its own.
   * @default 'reads'
   */
  readonly batch?: Batching | undefined;
  /** @internal What carries the messages. A simulated world puts its network here. @default gRPC */
  readonly transport?: Transport | undefined;
  /** Where time comes from. @default the machine's clocks */
  readonly clock?: Clock | undefined;
}

/** The names of `ClientOptions`. */
export const CLIENT_OPTIONS = [
  'endpoints',
  'tls',
  'auth',
  'syncIntervalMs',
  'timeoutMs',
  'batch',
  'clock',
  'transport',
] as const;
