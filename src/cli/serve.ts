import { type AutoCompaction, EmbeddedServer } from '../embedded/index.js';
import { Deferred } from '../util/deferred.js';
import { onAbort } from '../util/abort.js';
import { EXIT } from './exit-codes.js';
import { Interruption } from './signals.js';
import { COMMON_FLAGS, type Page, readArgs, UsageError } from './usage.js';

const DEFAULT_PORT = 2379;
const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

export const SERVE_PAGE = {
  name: 'serve',
  usage: ['serve [--port PORT] [--host ADDRESS] [--socket PATH] [--auto-compaction-retention N] [--json]'],
  about: `Runs an etcd v3 server in this process until it is interrupted: for development, tests, and fleets on one
machine. It keeps everything in memory and forgets it when it ends. etcdctl and every etcd client can use it.`,
  flags: {
    port: { value: 'PORT', help: `the TCP port, 0 for a free one (default ${DEFAULT_PORT})` },
    host: { value: 'ADDRESS', help: 'the address to listen at (default 127.0.0.1)' },
    socket: { value: 'PATH', help: 'listen at this Unix socket instead' },
    'auto-compaction-retention': {
      value: 'N',
      help: 'history to keep: revisions (default 100000), or 90s, 30m, 2h; 0: all',
    },
    json: { help: 'print {"endpoint":…,"pid":…} as one line when it listens' },
    ...COMMON_FLAGS,
  },
  notes: 'It has neither passwords nor TLS: listen only where every peer is trusted.',
} as const satisfies Page;

/** `conclave serve`. Resolves with the exit code when a signal has ended it. */
export async function serve(argv: readonly string[]): Promise<number> {
  const typed = readArgs<keyof typeof SERVE_PAGE.flags>(SERVE_PAGE, argv);
  const surplus = [...typed.positionals, ...(typed.command ?? [])];
  if (surplus.length > 0) throw new UsageError(`serve takes no ${JSON.stringify(surplus[0])}`);
  const socketPath = typed.text('socket');
  const host = typed.text('host') ?? '127.0.0.1';
  const port = typed.whole('port', 0, 65_535) ?? DEFAULT_PORT;
  if (socketPath === '' || host === '') throw new UsageError('--socket and --host must not be empty');
  if (socketPath !== undefined && (typed.text('port') ?? typed.text('host')) !== undefined) {
    throw new UsageError('--socket goes without --port and --host');
  }
  const retention = typed.text('auto-compaction-retention');
  const autoCompaction = retention === undefined ? undefined : retentionOf(retention);
  using interrupt = new Interruption();
  let server: EmbeddedServer;
  try {
    const place = socketPath === undefined ? { host, port } : { socketPath };
    server = await EmbeddedServer.start({ autoCompaction, ...place });
  } catch (error) {
    const where = socketPath ?? `${host}:${port}`;
    const why = error instanceof Error ? error.message : String(error);
    console.error(`conclave serve: cannot listen at ${where}: ${why}; choose another --port or --socket`);
    return EXIT.server;
  }
  try {
    const { endpoint } = server;
    if (typed.has('json')) console.log(JSON.stringify({ endpoint, pid: process.pid }));
    else console.log(`etcd v3, in memory, at ${endpoint} (end it with Ctrl-C)`);
    if (socketPath === undefined && !LOOPBACK.test(host)) {
      console.error(`conclave serve: anybody who can reach ${host} can read and change everything`);
    }
    const ended = new Deferred<void>();
    onAbort(interrupt.signal, () => ended.resolve());
    await ended.promise;
  } finally {
    await server.close();
  }
  return EXIT.ok;
}

const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000 };

/** Revisions as a whole number, or a time as etcd's flag takes it. */
function retentionOf(text: string): AutoCompaction | false {
  const [, count = '', unit = ''] = /^(\d{1,9})([smh]?)$/.exec(text) ?? [];
  if (count === '')
    throw new UsageError(
      `--auto-compaction-retention takes a number of revisions, or a time such as 90s, 30m or 2h, not ${JSON.stringify(text)}`,
    );
  if (Number(count) === 0) return false;
  return unit === ''
    ? { retentionRevisions: Number(count) }
    : { retentionMs: Number(count) * (UNIT_MS[unit] ?? 1) };
}
