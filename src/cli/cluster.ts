import { type EtcdCluster, startEtcd } from '../testing/etcd-cluster.js';
import type { EtcdMember } from '../testing/etcd-member.js';
import { keptPorts } from '../testing/kept-cluster.js';
import { Deferred } from '../util/deferred.js';
import { onAbort } from '../util/abort.js';
import { EXIT } from './exit-codes.js';
import { Interruption } from './signals.js';
import { COMMON_FLAGS, type Page, readArgs, type Typed, UsageError } from './usage.js';

const DEFAULT_PORT = 2379;
const DEFAULT_MEMBERS = 3;
/** What a cluster can sensibly have: an even number survives no more than the odd one below it. */
const SIZES = [1, 3, 5] as const;

export const CLUSTER_PAGE = {
  name: 'cluster',
  usage: ['cluster start [--members N] [--port PORT] [--data-dir DIR] [--etcd FILE] [--json] [-- FLAG …]'],
  about: `Starts real etcd members on this machine, prints their endpoints, and ends them when it is interrupted: for
development, for tests, and to see what a cluster does when a member is killed or stopped. They listen at 127.0.0.1.`,
  flags: {
    members: {
      value: 'N',
      help: `how many: ${SIZES.join(', ')} (default ${DEFAULT_MEMBERS}, or as many as --data-dir has)`,
    },
    port: {
      value: 'PORT',
      help: `the first member's port for clients, 0 for free ones (default ${DEFAULT_PORT}, or as in --data-dir);\nthe ports after it are the other members', two for each`,
    },
    'data-dir': {
      value: 'DIR',
      help: 'keep data and logs here, to go on with next time (default: nothing is kept)',
    },
    etcd: { value: 'FILE', help: 'the etcd to run (env CONCLAVE_ETCD; default: etcd on PATH)' },
    json: { help: 'print endpoints, members and pids as one line of JSON when they serve' },
    ...COMMON_FLAGS,
  },
  notes: `What follows "--" is given to every member, such as -- --enable-v2 or -- --quota-backend-bytes=16777216.
It has neither passwords nor TLS: everybody on this machine can read and change everything.`,
} as const satisfies Page;

type Flags = Typed<keyof typeof CLUSTER_PAGE.flags>;

/** `conclave cluster start`. Resolves with the exit code when a signal, or the loss of all members, has ended it. */
export async function cluster(argv: readonly string[]): Promise<number> {
  const typed: Flags = readArgs<keyof typeof CLUSTER_PAGE.flags>(CLUSTER_PAGE, argv);
  const [what, ...surplus] = typed.positionals;
  if (what !== 'start') {
    const instead = what === undefined ? '' : `, not ${JSON.stringify(what)}`;
    throw new UsageError(`type "conclave cluster start"${instead}; Ctrl-C or SIGTERM ends it`);
  }
  if (surplus.length > 0) throw new UsageError(`cluster start takes no ${JSON.stringify(surplus[0])}`);
  const wanted = readWanted(typed);
  using interrupt = new Interruption();
  let running: EtcdCluster;
  try {
    const kept = wanted.dataDir === undefined ? undefined : await keptPorts(wanted.dataDir);
    const fresh = kept === undefined ? ({ members: DEFAULT_MEMBERS, port: DEFAULT_PORT } as const) : {};
    running = await startEtcd({ ...fresh, ...wanted, signal: interrupt.signal });
  } catch (error) {
    if (interrupt.signal.aborted) return EXIT.ok;
    const why = error instanceof Error ? error.message : String(error);
    const advice = / is taken$/.test(why) ? '; choose another --port, or 0 for free ones' : '';
    console.error(`conclave cluster: cannot start: ${why}${advice}`);
    return EXIT.server;
  }
  try {
    console.log(typed.has('json') ? asJson(running) : asText(running));
    return await untilEnded(running.members, interrupt.signal);
  } finally {
    await running.close();
  }
}

function readWanted(
  typed: Flags,
): Pick<Parameters<typeof startEtcd>[0] & object, 'args' | 'binary' | 'dataDir' | 'members' | 'port'> {
  const count = typed.whole('members', 1, 5);
  const members = SIZES.find((size) => size === count);
  if (count !== undefined && members === undefined)
    throw new UsageError(`--members must be ${SIZES.join(', ')}, not ${count}`);
  const port = typed.whole('port', 0, 65_526);
  const dataDir = typed.text('data-dir');
  const binary = typed.text('etcd');
  if (dataDir === '' || binary === '') throw new UsageError('--data-dir and --etcd must not be empty');
  return {
    args: typed.command ?? [],
    ...(members !== undefined && { members }),
    ...(port !== undefined && { port }),
    ...(dataDir !== undefined && { dataDir }),
    ...(binary !== undefined && { binary }),
  };
}

function asJson({ endpoints, members, version }: EtcdCluster): string {
  const each = members.map(({ endpoint, name, pid }) => ({ name, endpoint, pid }));
  return JSON.stringify({ endpoints, members: each, pid: process.pid, version });
}

function asText({ endpoints, members, version }: EtcdCluster): string {
  const lines = members.map(({ endpoint, pid }, at) => `  member ${at + 1}  ${endpoint}  pid ${pid ?? '-'}`);
  return [
    `etcd ${version}, ${members.length === 1 ? 'one member' : `${members.length} members`} (end with Ctrl-C):`,
    ...lines,
    `  export CONCLAVE_ENDPOINTS=${endpoints.join(',')}`,
  ].join('\n');
}

/** Until the signal, or until no member is left; tells of each that ends before. */
async function untilEnded(members: readonly EtcdMember[], signal: AbortSignal): Promise<number> {
  const ended = new Deferred<number>();
  let left = members.length;
  for (const [at, member] of members.entries()) {
    const { pid } = member;
    void member.ended().then(() => {
      if (signal.aborted) return;
      left -= 1;
      console.error(`conclave cluster: member ${at + 1}, pid ${pid ?? '-'}, has ended; ${left} left`);
      if (left === 0) ended.resolve(EXIT.server);
    });
  }
  const stopListening = onAbort(signal, () => ended.resolve(EXIT.ok));
  try {
    return await ended.promise;
  } finally {
    stopListening();
  }
}
