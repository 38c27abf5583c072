/** What `startEtcd` takes. */
import type { CertificateOptions } from './certificates.js';

/** What etcd is started with. */
export interface StartEtcdOptions {
  /** How many members the cluster has. @default 1, or as many as `dataDir` has */
  readonly members?: 1 | 3 | 5 | undefined;
  /**
   * The first member's port for clients. The port after it is for the other members; the next member has the next two.
   * @default free ports, or those of `dataDir`
   */
  readonly port?: number | undefined;
  /**
   * A folder to keep the data and etcd's logs in: it may be missing or empty, or be that of an earlier cluster, which goes
   * on with its members, its ports and its data. Then etcd writes to disk before it answers, and is ended by SIGTERM.
   * @default a temporary folder, which is removed
   */
  readonly dataDir?: string | undefined;
  /** The executable: a path, or a name to look for on PATH. @default env CONCLAVE_ETCD, else `etcd` */
  readonly binary?: string | undefined;
  /** More arguments for every member; they win over the launcher's own. */
  readonly args?: readonly string[] | undefined;
  /** Serve clients over TLS, with certificates made for this cluster. @default false */
  readonly tls?: boolean | CertificateOptions | undefined;
  /** With `tls`: refuse clients that show no certificate of the cluster's authority. @default false */
  readonly clientCertAuth?: boolean | undefined;
  /** Turn authentication on, with the user `root` and this password. Not with `dataDir`. @default off */
  readonly auth?: { readonly rootPassword: string } | undefined;
  /** How long etcd's simple auth tokens live, in seconds. @default etcd's own, 300 */
  readonly authTokenTtlSeconds?: number | undefined;
  /** @default etcd's own, 100 */
  readonly heartbeatIntervalMs?: number | undefined;
  /** etcd grants no lease shorter than 1.5 times this, rounded up to seconds. @default etcd's own, 1000 */
  readonly electionTimeoutMs?: number | undefined;
  /** Give up when the cluster is not healthy after this long. @default 20000 */
  readonly startTimeoutMs?: number | undefined;
  /** Gives starting up: what was started is ended, then it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Their names, for who checks them. */
export const OPTION_NAMES = [
  'members',
  'port',
  'dataDir',
  'binary',
  'args',
  'tls',
  'clientCertAuth',
  'auth',
  'authTokenTtlSeconds',
  'heartbeatIntervalMs',
  'electionTimeoutMs',
  'startTimeoutMs',
  'signal',
];
