import { mkdtempSync, statfsSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { checkOptions } from '../util/validate.js';
import {
  type CertificateOptions,
  makeCertificates,
  type TestCertificates,
  type TlsMaterial,
} from './certificates.js';
import { type EtcdBinary, findEtcd, isAtLeast } from './etcd-binary.js';
import { EtcdMember } from './etcd-member.js';
import { httpCall } from './http.js';
import { Keeper } from './keeper.js';
import { freePorts } from './ports.js';

/** What etcd is started with. */
export interface StartEtcdOptions {
  /** How many members the cluster has. @default 1 */
  readonly members?: 1 | 3 | undefined;
  /** The executable: a path, or a name to look for on PATH. @default env CONCLAVE_ETCD, else `etcd` */
  readonly binary?: string | undefined;
  /** More arguments for every member; they win over the launcher's own. */
  readonly args?: readonly string[] | undefined;
  /** Serve clients over TLS, with certificates made for this cluster. @default false */
  readonly tls?: boolean | CertificateOptions | undefined;
  /** With `tls`: refuse clients that show no certificate of the cluster's authority. @default false */
  readonly clientCertAuth?: boolean | undefined;
  /** Turn authentication on, with the user `root` and this password. @default off */
  readonly auth?: { readonly rootPassword: string } | undefined;
  /** How long etcd's simple auth tokens live, in seconds. @default etcd's own, 300 */
  readonly authTokenTtlSeconds?: number | undefined;
  /** @default etcd's own, 100 */
  readonly heartbeatIntervalMs?: number | undefined;
  /** etcd grants no lease shorter than 1.5 times this, rounded up to seconds. @default etcd's own, 1000 */
  readonly electionTimeoutMs?: number | undefined;
  /** Give up when the cluster is not healthy after this long. @default 20000 */
  readonly startTimeoutMs?: number | undefined;
}

const OPTION_NAMES = [
  'members',
  'binary',
  'args',
  'tls',
  'clientCertAuth',
  'auth',
  'authTokenTtlSeconds',
  'heartbeatIntervalMs',
  'electionTimeoutMs',
  'startTimeoutMs',
];

const LAUNCH_TRIES = 5;
/** Roughly what one member's data takes: its log is laid out in files of 64 MB. */
const ROOM_PER_MEMBER = 400_000_000;

/** A running etcd of our own. It ends with `close()`, and whenever this process ends, in whatever way. */
export interface EtcdCluster extends AsyncDisposable {
  /** Where clients connect, one per member. */
  readonly endpoints: readonly string[];
  /** The first of `endpoints`. */
  readonly endpoint: string;
  readonly members: readonly EtcdMember[];
  /** As etcd says it, as in `3.5.16`. */
  readonly version: string;
  /** Of a cluster with `tls`: what a client needs. */
  readonly tls: TlsMaterial | undefined;
  /** Of a cluster with `tls`: the authority, its certificates, and as many more as are asked for. */
  readonly certificates: TestCertificates | undefined;
  /** Of a cluster with `tls`: the material of an authority the cluster does not know, for tests that must be refused. */
  readonly strangerTls: TlsMaterial | undefined;
  /** The member that leads, asked of the members themselves; `undefined` while there is none. */
  leader(): Promise<EtcdMember | undefined>;
  /** Kills the members and removes their data. Calling it again does nothing more. */
  close(): Promise<void>;
}

/**
 * Starts a real etcd on free ports of 127.0.0.1, with its data in a temporary folder (in memory where there is room), and
 * waits until it is healthy.
 *
 * Rejects with an `Error`: in one line when there is no etcd to run, with the tail of etcd's log when it does not start.
 */
export async function startEtcd(options: StartEtcdOptions = {}): Promise<EtcdCluster> {
  checkOptions(options, OPTION_NAMES, 'startEtcd');
  if (options.clientCertAuth === true && !options.tls) throw new TypeError('clientCertAuth needs tls');
  const binary = await findEtcd(options.binary);
  const certificates = options.tls ? makeCertificates(options.tls === true ? {} : options.tls) : undefined;
  for (let tries = 1; ; tries++) {
    const cluster = await Cluster.launch(options, binary, certificates);
    try {
      await cluster.ready();
      return cluster;
    } catch (error) {
      const again = tries < LAUNCH_TRIES && cluster.members.some((member) => member.portWasTaken);
      await cluster.close();
      if (!again) throw error;
    }
  }
}

class Cluster implements EtcdCluster {
  readonly members: readonly EtcdMember[];
  readonly version: string;
  readonly tls: TlsMaterial | undefined;
  readonly certificates: TestCertificates | undefined;
  readonly strangerTls: TlsMaterial | undefined;
  readonly #options: StartEtcdOptions;
  readonly #folder: string;
  readonly #keeper: Keeper;

  private constructor(options: StartEtcdOptions, launched: Launched) {
    this.#options = options;
    this.members = launched.members;
    this.version = launched.binary.version;
    this.tls = launched.certificates?.client;
    this.certificates = launched.certificates;
    this.strangerTls = launched.certificates?.stranger;
    this.#folder = launched.folder;
    this.#keeper = launched.keeper;
  }

  static async launch(
    options: StartEtcdOptions,
    binary: EtcdBinary,
    certificates: TestCertificates | undefined,
  ): Promise<Cluster> {
    const count = options.members ?? 1;
    const ports = await freePorts(count * 2);
    const folder = mkdtempSync(path.join(roomyFolder(count), 'conclave-etcd-'));
    const keeper = new Keeper(folder);
    const launched = { binary, certificates, folder, keeper };
    const members = planMembers(options, launched, ports);
    for (const member of members) member.launch();
    return new Cluster(options, { ...launched, members });
  }

  get endpoints(): readonly string[] {
    return this.members.map((member) => member.endpoint);
  }

  get endpoint(): string {
    return this.endpoints[0] ?? '';
  }

  async ready(): Promise<void> {
    await Promise.all(this.members.map((member) => member.ready()));
    const { auth } = this.#options;
    if (auth !== undefined) await this.#enableAuth(auth.rootPassword);
  }

  async leader(): Promise<EtcdMember | undefined> {
    for (const member of this.members.filter((each) => each.running)) {
      // Metrics, unlike a status call, take no auth token.
      const metrics = await httpCall({ url: `${member.endpoint}/metrics`, tls: this.tls }).catch(
        () => undefined,
      );
      if (metrics !== undefined && /^etcd_server_is_leader 1$/m.test(metrics.text)) return member;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    this.#keeper.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #enableAuth(password: string): Promise<void> {
    const [first] = this.members;
    if (first === undefined) return;
    await this.#ask(first, 'auth/user/add', { name: 'root', password });
    await this.#ask(first, 'auth/role/add', { name: 'root' });
    await this.#ask(first, 'auth/user/grant', { user: 'root', role: 'root' });
    await this.#ask(first, 'auth/enable', {});
  }

  /** One call through etcd's JSON gateway. */
  async #ask(member: EtcdMember, rpc: string, body: object): Promise<void> {
    const url = `${member.endpoint}/v3/${rpc}`;
    const { status, text } = await httpCall({ url, body, tls: this.tls });
    if (status !== 200) throw new Error(`etcd refused ${rpc}: ${text.trim()}`);
  }
}

interface Launched {
  readonly binary: EtcdBinary;
  readonly certificates: TestCertificates | undefined;
  readonly folder: string;
  readonly keeper: Keeper;
  readonly members: readonly EtcdMember[];
}

/** /dev/shm when it is there and roomy (a container's has 64 MB), else the temporary folder. */
function roomyFolder(members: number): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize > members * ROOM_PER_MEMBER ? '/dev/shm' : tmpdir();
  } catch {
    return tmpdir();
  }
}

function planMembers(
  options: StartEtcdOptions,
  launched: Omit<Launched, 'members'>,
  ports: readonly number[],
): EtcdMember[] {
  const { binary, certificates, folder, keeper } = launched;
  const id = path.basename(folder);
  const scheme = certificates === undefined ? 'http' : 'https';
  const plans = ports.slice(0, ports.length / 2).map((port, at) => ({
    name: `${id}-${at}`,
    endpoint: `${scheme}://127.0.0.1:${port}`,
    peerUrl: `http://127.0.0.1:${ports[ports.length / 2 + at] ?? 0}`,
  }));
  const cluster = plans.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',');
  const shared = [...clusterArgs(options, binary), ...tlsArgs(options, launched)];
  return plans.map((plan) => {
    const own = {
      name: plan.name,
      'data-dir': path.join(folder, plan.name),
      'listen-client-urls': plan.endpoint,
      'advertise-client-urls': plan.endpoint,
      'listen-peer-urls': plan.peerUrl,
      'initial-advertise-peer-urls': plan.peerUrl,
      'initial-cluster': cluster,
      'initial-cluster-token': id,
    };
    const args = [
      ...Object.entries(own).map(([flag, value]) => `--${flag}=${value}`),
      ...shared,
      ...(options.args ?? []),
    ];
    const startTimeoutMs = options.startTimeoutMs ?? 20_000;
    return new EtcdMember({
      ...plan,
      file: binary.file,
      args,
      dataDir: own['data-dir'],
      folder,
      tls: certificates?.client,
      startTimeoutMs,
      keeper,
    });
  });
}

function clusterArgs(options: StartEtcdOptions, { version }: EtcdBinary): string[] {
  const { authTokenTtlSeconds, heartbeatIntervalMs, electionTimeoutMs } = options;
  const args = ['--logger=zap', '--log-outputs=stderr', '--bcrypt-cost=4'];
  // The data is thrown away in the end, so it need not survive a power cut.
  if (isAtLeast(version, [3, 4, 23])) args.push('--unsafe-no-fsync');
  if (authTokenTtlSeconds !== undefined)
    args.push('--auth-token=simple', `--auth-token-ttl=${authTokenTtlSeconds}`);
  if (heartbeatIntervalMs !== undefined) args.push(`--heartbeat-interval=${heartbeatIntervalMs}`);
  if (electionTimeoutMs !== undefined) args.push(`--election-timeout=${electionTimeoutMs}`);
  return args;
}

function tlsArgs(
  { clientCertAuth = false }: StartEtcdOptions,
  { certificates, folder }: Omit<Launched, 'members'>,
): string[] {
  if (certificates === undefined) return [];
  const { ca, cert, key } = certificates.server;
  const file = (flag: string, text: string): string => {
    const name = path.join(folder, `${flag}.pem`);
    writeFileSync(name, text, { mode: 0o600 });
    return `--${flag}=${name}`;
  };
  const args = [file('cert-file', cert), file('key-file', key)];
  // The authority alone already makes etcd ask every client for a certificate.
  return clientCertAuth ? [...args, file('trusted-ca-file', ca), '--client-cert-auth'] : args;
}
