import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { it } from 'node:test';

import { EXIT } from '#conclave/cli/exit-codes.js';
import { CLUSTER_PAGE } from '#conclave/cli/cluster.js';
import { CONNECT_FLAGS } from '#conclave/cli/connect.js';
import { MIGRATE_PAGE } from '#conclave/cli/migrate-v2/migrate-v2.js';
import { ELECT_PAGE } from '#conclave/cli/elect.js';
import { LS_PAGE } from '#conclave/cli/look/ls.js';
import { GRAPH_PAGE } from '#conclave/cli/look/graph.js';
import { HISTORY_PAGE } from '#conclave/cli/look/history.js';
import { RELEASE_PAGE } from '#conclave/cli/look/release.js';
import { SHOW_PAGE } from '#conclave/cli/look/show.js';

const page = await readFile(new URL('../../../docs/cli.md', import.meta.url), 'utf8');

it('docs/cli.md has a row for every exit code, and no other', () => {
  const table = page.slice(page.indexOf('## Exit codes'), page.indexOf('## Not guaranteed'));
  const rows = table.split('\n').flatMap((line) => /^\| ([\d, ]+) *\|/.exec(line)?.[1]?.split(',') ?? []);
  // 141 is 128 and SIGPIPE.
  const known = [...Object.values(EXIT), 141];
  assert.deepEqual(rows.map(Number).sort(), known.map(Number).sort());
});

it('docs/cli.md names every option', () => {
  const missing = Object.keys({
    ...ELECT_PAGE.flags,
    ...CLUSTER_PAGE.flags,
    ...MIGRATE_PAGE.flags,
    ...CONNECT_FLAGS,
    ...LS_PAGE.flags,
    ...SHOW_PAGE.flags,
    ...RELEASE_PAGE.flags,
    ...GRAPH_PAGE.flags,
    ...HISTORY_PAGE.flags,
  }).filter((flag) => flag !== 'help' && flag !== 'conflict-exit-code' && !page.includes(`--${flag}`));
  assert.deepEqual(missing, []);
  assert.ok(page.includes('`-E CODE`'));
});
