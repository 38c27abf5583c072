/** Members that join a cluster while it runs. */
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';

import { type Client, hasCode } from 'conclave';
import type { EtcdMember } from 'conclave/testing';
import { findEtcd, isAtLeast } from '#conclave/testing/etcd-binary.js';
import { EtcdMember as Member } from '#conclave/testing/etcd-member.js';
import { Keeper } from '#conclave/testing/keeper.js';
import { roomyFolder } from '#conclave/testing/member-plans.js';
import { freePorts } from '#conclave/testing/ports.js';
import { until } from './until.js';

let joined = 0;

/** Adds a member to the cluster that `client` reaches, and starts it, until the test ends. A voter serves when it resolves. */
export async function joinMember(
  t: TestContext,
  client: Client,
  options: { readonly learner?: boolean } = {},
): Promise<EtcdMember> {
  const [port = 0, peerPort = 0] = await freePorts(2);
  const endpoint = `http://127.0.0.1:${port}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const name = `joined-${++joined}`;
  const before = await client.cluster.memberList();
  await client.cluster.memberAdd([peerUrl], options);
  const cluster = [...before, { name, peerUrls: [peerUrl] }].map(
    (each) => `${each.name}=${each.peerUrls.join()}`,
  );
  const folder = mkdtempSync(path.join(roomyFolder(1), 'conclave-joined-'));
  const keeper = new Keeper(folder);
  const dataDir = path.join(folder, name);
  const flags = {
    'advertise-client-urls': endpoint,
    'data-dir': dataDir,
    'election-timeout': 500,
    'heartbeat-interval': 50,
    'initial-advertise-peer-urls': peerUrl,
    'initial-cluster': cluster.join(','),
    'initial-cluster-state': 'existing',
    'listen-client-urls': endpoint,
    'listen-peer-urls': peerUrl,
    'log-outputs': 'stderr',
    logger: 'zap',
    name,
    'strict-reconfig-check': false,
  };
  const { file, version } = await findEtcd();
  const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
  const member = new Member({
    args: isAtLeast(version, [3, 4, 23]) ? [...args, '--unsafe-no-fsync'] : args,
    dataDir,
    endpoint,
    file,
    folder,
    keeper,
    logFile: path.join(folder, 'log'),
    name,
    peerUrl,
    startTimeoutMs: 20_000,
    tls: undefined,
  });
  t.after(async () => {
    await member.kill();
    keeper.close();
    rmSync(folder, { recursive: true });
  });
  member.launch();
  if (options.learner !== true) await member.ready();
  return member;
}

/** Removes a member. etcd refuses that as long as its members have not been connected to each other for 5 s. */
export async function removeMember({ cluster }: Client, id: bigint): Promise<void> {
  await until(() =>
    cluster.memberRemove(id).catch((error: unknown) => {
      if (hasCode(error, 'UNHEALTHY')) return false;
      throw error;
    }),
  );
}
