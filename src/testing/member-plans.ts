/** What each member of a cluster is started with: its name, its addresses, its folder, and etcd's flags. */
import { statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import type { TestCertificates } from './certificates.js';
import { type EtcdBinary, isAtLeast } from './etcd-binary.js';
import type { MemberSetup } from './etcd-member.js';
import type { Keeper } from './keeper.js';
import type { MemberPorts } from './kept-cluster.js';
import type { StartEtcdOptions } from './start-options.js';

/** Roughly what one member's data takes: its log is laid out in files of 64 MB. */
const ROOM_PER_MEMBER = 400_000_000;

/** What the members of a cluster share. */
export interface Launched {
  readonly binary: EtcdBinary;
  readonly certificates: TestCertificates | undefined;
  readonly folder: string;
  readonly keeper: Keeper;
}

/** /dev/shm when it is there and roomy (a container's has 64 MB), else the temporary folder. */
export function roomyFolder(members: number): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize > members * ROOM_PER_MEMBER ? '/dev/shm' : tmpdir();
  } catch {
    return tmpdir();
  }
}

/** How each member is started; the ports are theirs, in order. */
export function planMembers(
  options: StartEtcdOptions,
  launched: Launched,
  ports: readonly MemberPorts[],
): readonly MemberSetup[] {
  const { binary, certificates, folder, keeper } = launched;
  const { dataDir } = options;
  const id = path.basename(folder);
  const scheme = certificates === undefined ? 'http' : 'https';
  const plans = ports.map(({ client, peer }, at) => ({
    // A name of its own tells the members of one test from another's; kept data goes by one that stays.
    name: dataDir === undefined ? `${id}-${at}` : `member-${at + 1}`,
    endpoint: `${scheme}://127.0.0.1:${client}`,
    peerUrl: `http://127.0.0.1:${peer}`,
  }));
  const cluster = plans.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',');
  const shared = [...clusterArgs(options, binary), ...tlsArgs(options, launched)];
  const home = path.resolve(dataDir ?? folder);
  return plans.map((plan) => {
    const own = {
      name: plan.name,
      'data-dir': path.join(home, plan.name),
      'listen-client-urls': plan.endpoint,
      'advertise-client-urls': plan.endpoint,
      'listen-peer-urls': plan.peerUrl,
      'initial-advertise-peer-urls': plan.peerUrl,
      'initial-cluster': cluster,
      'initial-cluster-token': id,
    };
    const flags = Object.entries(own).map(([flag, value]) => `--${flag}=${value}`);
    return {
      ...plan,
      file: binary.file,
      args: [...flags, ...shared, ...(options.args ?? [])],
      dataDir: own['data-dir'],
      folder,
      logFile: path.join(home, `${plan.name}.log`),
      tls: certificates?.client,
      startTimeoutMs: options.startTimeoutMs ?? 20_000,
      keeper,
    };
  });
}

function clusterArgs(options: StartEtcdOptions, { version }: EtcdBinary): string[] {
  const { authTokenTtlSeconds, dataDir, heartbeatIntervalMs, electionTimeoutMs } = options;
  const args = ['--logger=zap', '--log-outputs=stderr'];
  // Data that is thrown away in the end need not survive a power cut, nor its passwords a thief.
  if (dataDir === undefined) args.push('--bcrypt-cost=4');
  if (dataDir === undefined && isAtLeast(version, [3, 4, 23])) args.push('--unsafe-no-fsync');
  if (authTokenTtlSeconds !== undefined)
    args.push('--auth-token=simple', `--auth-token-ttl=${authTokenTtlSeconds}`);
  if (heartbeatIntervalMs !== undefined) args.push(`--heartbeat-interval=${heartbeatIntervalMs}`);
  if (electionTimeoutMs !== undefined) args.push(`--election-timeout=${electionTimeoutMs}`);
  return args;
}

function tlsArgs({ clientCertAuth = false }: StartEtcdOptions, { certificates, folder }: Launched): string[] {
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
