import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { it } from 'node:test';

import { ETCD_ERRORS } from '#conclave/errors/codes.js';
import { fateOfEtcd } from '#conclave/errors/fates.js';
import { FOREIGN } from '#conclave/etcd/transport/verdicts.js';

const top = new URL('../../../', import.meta.url);

/** The codes as the source lists them: the members of the union, and the rows of etcd's errors. */
async function codesOfSource(): Promise<Set<string>> {
  const source = await readFile(new URL('src/errors/codes.ts', top), 'utf8');
  const local = [...source.matchAll(/^ {2}\| '([A-Z_]+)'/gm)].map((match) => match[1] ?? '');
  const etcd = [...source.matchAll(/row\(\s*'([A-Z_]+)'/g)].map((match) => match[1] ?? '');
  const statuses = source.slice(
    source.indexOf('export type StatusName'),
    source.indexOf("/**\n * etcd's errors word"),
  );
  const names = new Set([...statuses.matchAll(/\| '([A-Z_]+)'/g)].map((match) => match[1]));
  const before = source.slice(0, source.indexOf('export type StatusName'));
  return new Set([
    ...local.filter((code) => !names.has(code) || before.includes(`| '${code}'`)),
    ...etcd,
    'ETCD',
  ]);
}

it('docs/errors.md has a row for every code, and no other', async () => {
  const text = await readFile(new URL('docs/errors.md', top), 'utf8');
  const rows = text.split('\n').filter((line) => line.startsWith('| `'));
  const documented = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`([A-Z_]+)`/g)].map((m) => m[1] ?? ''),
  );
  assert.deepEqual(documented.sort(), [...(await codesOfSource())].sort());
});

it('docs/errors.md tells the fate of a call for every answer, as the source has it', async () => {
  const text = await readFile(new URL('docs/errors.md', top), 'utf8');
  const cells = text
    .slice(text.indexOf('| what came back'))
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const documented = new Map(
    cells.flatMap(([, answer = '', codes = '', fate = '']) =>
      answer.startsWith('etcd says') && answer.includes('no code')
        ? []
        : [...codes.matchAll(/`([A-Z_]+)`/g)].map(
            (match) => [match[1] ?? '', fate.replaceAll('`', '')] as const,
          ),
    ),
  );
  for (const { code, message, status } of ETCD_ERRORS) {
    const fate = fateOfEtcd(code, { message, status });
    // "Every other code" is refused; those that Conclave gives, too, have other rows.
    if (code !== 'REQUEST_TOO_LARGE') assert.equal(documented.get(code) ?? 'refused', fate, code);
  }
  const foreign = cells.map(([, answer, code, fate]) => `${answer} ${code} ${fate}`);
  for (const { answer, code, fate } of FOREIGN)
    assert.ok(foreign.includes(`${answer} \`${code}\` \`${fate}\``), answer);
});
