import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { onAbort } from '../util/abort.js';
import { checkOptions } from '../util/validate.js';
import { makeCertificates, type TestCertificates, type TlsMaterial } from './certificates.js';
import { type EtcdBinary, findEtcd } from './etcd-binary.js';
import { EtcdMember } from './etcd-member.js';
import { httpCall } from './http.js';
import { Keeper } from './keeper.js';
import { portsFor } from './kept-cluster.js';
import { type Launched, planMembers, roomyFolder } from './member-plans.js';
import { OPTION_NAMES, type StartEtcdOptions } from './start-options.js';

const LAUNCH_TRIES = 5;

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
  /** Kills the members and removes their data; with `dataDir` it stops them, and leaves that. Calling it again does nothing more. */
  close(): Promise<void>;
}

/**
 * Starts a real etcd on 127.0.0.1, by default on free ports, with its data in a temporary folder (in memory where there is
 * room), and waits until it is healthy.
 *
 * Rejects with an `Error`: in one line when there is no etcd to run, with the tail of etcd's log when it does not start.
 */
export async function startEtcd(options: StartEtcdOptions = {}): Promise<EtcdCluster> {
  checkOptions(options, OPTION_NAMES, 'startEtcd');
  if (options.clientCertAuth === true && !options.tls) throw new TypeError('clientCertAuth needs tls');
  if (options.auth !== undefined && options.dataDir !== undefined)
    throw new TypeError('auth goes without dataDir');
  options.signal?.throwIfAborted();
  const binary = await findEtcd(options.binary);
  const certificates = options.tls ? makeCertificates(options.tls === true ? {} : options.tls) : undefined;
  for (let tries = 1; ; tries++) {
    const cluster = await Cluster.launch(options, binary, certificates);
    const stopListening = onAbort(options.signal, () => void cluster.close());
    try {
      await cluster.ready();
      options.signal?.throwIfAborted();
      return cluster;
    } catch (error) {
      const again = tries < LAUNCH_TRIES && cluster.members.some((member) => member.portWasTaken);
      await cluster.close();
      options.signal?.throwIfAborted();
      if (!again || options.port || options.dataDir !== undefined) throw error;
    } finally {
      stopListening();
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

  private constructor(options: StartEtcdOptions, launched: Launched & Pick<EtcdCluster, 'members'>) {
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
    const { members: count, port, dataDir } = options;
    const ports = await portsFor({ dataDir, members: count, port });
    const folder = mkdtempSync(path.join(roomyFolder(ports.length), 'conclave-etcd-'));
    const keeper = new Keeper(folder);
    const launched = { binary, certificates, folder, keeper };
    const members = planMembers(options, launched, ports).map((setup) => new EtcdMember(setup));
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
    const isKept = this.#options.dataDir !== undefined;
    await Promise.all(this.members.map((member) => (isKept ? member.stop() : member.kill())));
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
