#!/usr/bin/env node
/** The `conclave` command. Each command is a file of this folder; this one finds it and reports how it ended. */
import { version } from '../proto/version.gen.js';
import { EXIT } from './exit-codes.js';
import { HelpRequest, helpText, type Page, UsageError } from './usage.js';

interface Command {
  readonly page: Page;
  readonly run: (argv: readonly string[]) => Promise<number>;
}

/** How each command is loaded: no command pays for what another one needs. */
const COMMANDS: ReadonlyMap<string, () => Promise<Command>> = new Map([
  [
    'cluster',
    () => import('./cluster.js').then(({ cluster, CLUSTER_PAGE }) => ({ page: CLUSTER_PAGE, run: cluster })),
  ],
  ['demo', () => import('./demo/demo.js').then(({ demo, DEMO_PAGE }) => ({ page: DEMO_PAGE, run: demo }))],
  ['elect', () => import('./elect.js').then(({ elect, ELECT_PAGE }) => ({ page: ELECT_PAGE, run: elect }))],
  [
    'graph',
    () => import('./look/graph.js').then(({ graph, GRAPH_PAGE }) => ({ page: GRAPH_PAGE, run: graph })),
  ],
  [
    'history',
    () =>
      import('./look/history.js').then(({ history, HISTORY_PAGE }) => ({ page: HISTORY_PAGE, run: history })),
  ],
  ['lock', () => import('./lock.js').then(({ lock, LOCK_PAGE }) => ({ page: LOCK_PAGE, run: lock }))],
  ['ls', () => import('./look/ls.js').then(({ ls, LS_PAGE }) => ({ page: LS_PAGE, run: ls }))],
  [
    'migrate-v2',
    () =>
      import('./migrate-v2/migrate-v2.js').then(({ migrateV2, MIGRATE_PAGE }) => ({
        page: MIGRATE_PAGE,
        run: migrateV2,
      })),
  ],
  [
    'release',
    () =>
      import('./look/release.js').then(({ release, RELEASE_PAGE }) => ({ page: RELEASE_PAGE, run: release })),
  ],
  ['serve', () => import('./serve.js').then(({ serve, SERVE_PAGE }) => ({ page: SERVE_PAGE, run: serve }))],
  ['show', () => import('./look/show.js').then(({ show, SHOW_PAGE }) => ({ page: SHOW_PAGE, run: show }))],
]);

const TOP_HELP = `Usage: conclave COMMAND [OPTION …]

Distributed coordination on etcd v3.

  demo        five worker processes elect leaders and survive losing them
  serve       an etcd v3 server in memory, for development and tests
  cluster     a cluster of real etcd members on this machine
  lock        run a command while holding a lock
  elect       run a command while leading
  ls          which names are in use, and who holds them
  show        one name: who holds it, who waits in order
  graph       who waits for whom; deadlocks
  history     who held a name, from when to when
  release     take a hold from somebody, after it is shown what that means
  migrate-v2  copy what an etcd v2 store holds to v3, for conclave/keys

"conclave COMMAND --help" tells more; --version prints the version.
`;

function unknown(name: string): number {
  const known = [...COMMANDS.keys()].join(', ');
  console.error(`conclave: there is no command ${JSON.stringify(name)}; there are ${known}`);
  return EXIT.usage;
}

/** Runs what was typed and resolves with the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  const [name = '--help', ...rest] = argv;
  if (name === '--version' || name === '-V') {
    console.log(version);
    return EXIT.ok;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    const [about] = rest;
    const page = about === undefined ? undefined : (await COMMANDS.get(about)?.())?.page;
    if (about !== undefined && page === undefined) return unknown(about);
    process.stdout.write(page === undefined ? TOP_HELP : helpText(page));
    return argv.length === 0 ? EXIT.usage : EXIT.ok;
  }
  const load = COMMANDS.get(name);
  if (load === undefined) return unknown(name);
  const command = await load();
  try {
    return await command.run(rest);
  } catch (error) {
    if (error instanceof HelpRequest) {
      process.stdout.write(helpText(command.page));
      return EXIT.ok;
    }
    if (error instanceof UsageError) {
      console.error(`conclave ${name}: ${error.message}`);
      return EXIT.usage;
    }
    console.error(`conclave ${name}: unexpected:`, error);
    return EXIT.internal;
  }
}

/** What a command says of the server's version only to who looks closely: it is nothing that its user can mend. */
const QUIET_WARNING = 'CONCLAVE_ETCD_KEEPALIVE';
process.removeAllListeners('warning');
process.on('warning', (warning: Error & { readonly code?: string }) => {
  const isAsked = /\bconclave\b/i.test(process.env['NODE_DEBUG'] ?? '');
  if (isAsked || warning.code !== QUIET_WARNING) console.error(`conclave: warning: ${warning.message}`);
});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // As with any command, it is no fault that a reader has gone.
  if (error.code !== 'EPIPE') console.error(`conclave: cannot write: ${error.message}`);
});
// Should nothing be left to wait for before the command has ended.
process.exitCode = EXIT.internal;
void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
