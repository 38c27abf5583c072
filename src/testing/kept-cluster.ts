/** Where a cluster listens, and what a folder in which its data is kept remembers of it. */
import { readdir, readFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { freePorts, isFree } from './ports.js';

/** Beside the members' folders: their ports, which are part of their data (each knows the others by them). */
const RECORD = 'conclave-cluster.json';

/** What was asked for; what is not said is left to the record, or to the default. */
export interface Wanted {
  readonly members: number | undefined;
  /** The first member's port. */
  readonly port: number | undefined;
  readonly dataDir: string | undefined;
}

/** A port for clients and one for the other members. */
export interface MemberPorts {
  readonly client: number;
  readonly peer: number;
}

/** What the folder remembers; `undefined` when it is empty or not there. Rejects when it holds something else. */
export async function keptPorts(dataDir: string): Promise<readonly MemberPorts[] | undefined> {
  const names = await namesIn(dataDir);
  if (names.length === 0) return undefined;
  if (!names.includes(RECORD))
    throw new Error(`the folder ${dataDir} is not empty, and has no cluster's data`);
  const record = JSON.parse(await readFile(path.join(dataDir, RECORD), 'utf8')) as { ports: MemberPorts[] };
  return record.ports;
}

/** The ports to start at, which were free a moment ago. Those of a new data folder are written down there. */
export async function portsFor({ members, port, dataDir }: Wanted): Promise<readonly MemberPorts[]> {
  const kept = dataDir === undefined ? undefined : await keptPorts(dataDir);
  const ports = kept ?? (await newPorts(members ?? 1, port));
  if (members !== undefined && members !== ports.length)
    throw new Error(`${dataDir ?? ''} has the data of ${ports.length} members, not of ${members}`);
  const first = ports[0]?.client;
  if (port !== undefined && port !== 0 && port !== first)
    throw new Error(
      `the members in ${dataDir ?? ''} know each other from port ${first ?? 0} on, not ${port}`,
    );
  // Those drawn just now were free; who loses one yet draws again.
  const asked = kept === undefined && !port ? [] : ports.flatMap(({ client, peer }) => [client, peer]);
  for (const each of asked) if (!(await isFree(each))) throw new Error(`port ${each} of 127.0.0.1 is taken`);
  if (dataDir !== undefined && kept === undefined) {
    await mkdir(dataDir, { recursive: true });
    await writeFile(path.join(dataDir, RECORD), `${JSON.stringify({ ports })}\n`);
  }
  return ports;
}

/** From `port` on two for each member; free ones, wherever they are, without a port. */
async function newPorts(members: number, port = 0): Promise<MemberPorts[]> {
  const all =
    port === 0 ? await freePorts(members * 2) : Array.from({ length: members * 2 }, (_, at) => port + at);
  return Array.from({ length: members }, (_, at) => ({
    client: all[at * 2] ?? 0,
    peer: all[at * 2 + 1] ?? 0,
  }));
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw new Error(`the data folder ${folder} cannot be read: ${code}`, { cause: error });
  }
}
