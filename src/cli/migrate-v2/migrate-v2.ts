/** `conclave migrate-v2`: copies what an etcd v2 store holds to etcd v3, where `conclave/keys` finds it. */
import { hasCode } from '../../errors/conclave-error.js';
import { Client } from '../../etcd/client.js';
import { cleanPath, Layout } from '../../keys/layout.js';
import { systemClock } from '../../util/clock.js';
import {
  checkEndpoint,
  CONNECT_FLAGS,
  explain,
  fromEnv,
  readTarget,
  readUser,
  type Target,
} from '../connect.js';
import { EXIT } from '../exit-codes.js';
import { assertReachable } from '../reach.js';
import { Interrupted, Interruption } from '../signals.js';
import { COMMON_FLAGS, type Page, readArgs, type Typed, UsageError } from '../usage.js';
import { copyTree } from './copy.js';
import { Tally } from './tally.js';
import { V2Error, V2Store } from './v2-store.js';
import { readTree } from './v2-tree.js';

const DEFAULT_PREFIX = 'keys';

export const MIGRATE_PAGE = {
  name: 'migrate-v2',
  usage: ['migrate-v2 [OPTION …] [PATH …]'],
  about: `Copies each PATH of an etcd v2 store (by default all) to etcd v3, where conclave/keys finds it: directories, values
and what is left of TTLs. It deletes nothing, overwrites nothing without --force, and may be run again to go on.`,
  flags: {
    from: { value: 'A,B', help: 'the members with the v2 store (default: those of --endpoints)' },
    'from-user': {
      value: 'NAME[:PASSWORD]',
      help: "the v2 store's user, which is none of v3's (env CONCLAVE_FROM_USER,\nCONCLAVE_FROM_PASSWORD)",
    },
    prefix: { value: 'PREFIX', help: `the KeysAPI's prefix (default ${DEFAULT_PREFIX})` },
    force: { help: 'overwrite values and TTLs that are others than those of the v2 store' },
    'dry-run': { help: 'write nothing; print what would be done' },
    json: { help: 'print the outcome as one line of JSON' },
    ...CONNECT_FLAGS,
    ...COMMON_FLAGS,
  },
  notes: `v2 lists no node whose name begins with "_": give each of these as a PATH, as in: conclave migrate-v2 / /_hidden

Exit codes: ${EXIT.ok} all is there, ${EXIT.incomplete} some nodes were left out, which are named; ${EXIT.usage} bad usage; ${EXIT.server} one of the
servers does not answer or refuses us, or has no v2 store; ${EXIT.internal} a bug of ours; 128 + n ended by signal n.`,
} as const satisfies Page;

type Flags = Typed<keyof typeof MIGRATE_PAGE.flags>;

/** `conclave migrate-v2`. Resolves with the exit code. */
export async function migrateV2(argv: readonly string[]): Promise<number> {
  const typed: Flags = readArgs<keyof typeof MIGRATE_PAGE.flags>(MIGRATE_PAGE, argv);
  if (typed.command !== undefined) throw new UsageError('migrate-v2 takes no command');
  const paths = typed.positionals.length === 0 ? ['/'] : typed.positionals.map(readPath);
  const prefix = readPrefix(typed.text('prefix') ?? DEFAULT_PREFIX);
  const target = readTarget(typed);
  const from = readFrom(typed, target);
  const tally = new Tally({ dryRun: typed.has('dry-run'), json: typed.has('json') });
  using interrupt = new Interruption();
  const client = new Client(target);
  try {
    const { signal } = interrupt;
    const nodes = await readTree(new V2Store(from), paths, { clock: systemClock, signal });
    await assertReachable(target);
    const report = tally.add.bind(tally);
    const options = { dryRun: typed.has('dry-run'), force: typed.has('force') };
    await copyTree(nodes, { ...options, client, prefix, report, signal });
    tally.print();
    return tally.complete ? EXIT.ok : EXIT.incomplete;
  } catch (error) {
    tally.printBrokenOff();
    if (error instanceof Interrupted) return error.exitCode;
    if (!(error instanceof V2Error) && !hasCode(error)) throw error;
    console.error(
      `conclave migrate-v2: ${error instanceof V2Error ? error.message : explain(error, target)}`,
    );
    return EXIT.server;
  } finally {
    await client.close();
  }
}

function readPath(typed: string): string {
  if (!typed.startsWith('/'))
    throw new UsageError(`a path of the v2 store begins with "/", not ${JSON.stringify(typed)}`);
  return orUsage(() => cleanPath(typed, 'the path'));
}

function readPrefix(typed: string): string {
  return orUsage(() => {
    new Layout(typed);
    return typed;
  });
}

function orUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof TypeError || error instanceof RangeError ? new UsageError(error.message) : error;
  }
}

/** The members with the v2 store. A v3 user's password goes to no server that only v2 was asked of. */
function readFrom(typed: Flags, target: Target): Target {
  const { auth: _, ...known } = target;
  const named = typed.text('from');
  const endpoints = named?.split(',').map((endpoint) => endpoint.trim()) ?? known.endpoints;
  for (const endpoint of endpoints) checkEndpoint(endpoint, known.tls !== undefined);
  const user = typed.text('from-user') ?? fromEnv(process.env, 'CONCLAVE_FROM_USER');
  if (user === undefined) return { ...known, endpoints };
  const apart = fromEnv(process.env, 'CONCLAVE_FROM_PASSWORD');
  const auth = readUser({ apart, flag: '--from-user', password: undefined, user });
  return { ...known, auth, endpoints };
}
