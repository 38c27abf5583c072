// docs/parity.md leaves no call of the protocol out, and no field of its request; the tests that it names are there.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { descriptor } from '#conclave/proto/descriptor.gen.js';

interface Described {
  readonly nested: Readonly<Record<string, Described>>;
  readonly methods?: Readonly<Record<string, { readonly requestType: string }>>;
  readonly fields?: Readonly<Record<string, unknown>>;
}

const top = fileURLToPath(new URL('../../..', import.meta.url));
const { etcdserverpb } = descriptor.nested as Readonly<Record<string, Described>>;

describe('docs/parity.md', () => {
  /** The cells of each rpc. */
  const rows = new Map<string, readonly string[]>();
  /** Of each fault, the tests. */
  const faults = new Map<string, readonly string[]>();
  before(async () => {
    const page = await readFile(path.join(top, 'docs/parity.md'), 'utf8');
    const [protocol = '', wrong = ''] = page.split('\n## What goes wrong');
    for (const [, what = '', tests = ''] of wrong.matchAll(/^\| (.+?) +\| (\w+\/.+?) +\|$/gm))
      faults.set(what, tests.split(', '));
    for (const line of protocol.split('\n')) {
      const [, rpc, ...cells] = line.split('|').map((cell) => cell.trim());
      const name = /^`([A-Z]\w+\.\w+)`$/.exec(rpc ?? '')?.[1];
      if (name !== undefined) rows.set(name, cells);
    }
  });

  const calls = Object.entries(etcdserverpb?.nested ?? {}).flatMap(([service, { methods = {} }]) =>
    Object.entries(methods).map(([name, { requestType }]) => ({ name: `${service}.${name}`, requestType })),
  );

  test('has a row for each call, and no others', () => {
    assert.ok(calls.length > 40, `${calls.length}`);
    assert.deepEqual([...rows.keys()].sort(), calls.map(({ name }) => name).sort());
  });

  test('names each field of a request', () => {
    for (const { name, requestType } of calls) {
      const [, fields = ''] = rows.get(name) ?? [];
      const named = new Set([...fields.matchAll(/`(\w+)`/g)].map(([, field]) => field));
      const missing = Object.keys(etcdserverpb?.nested[requestType]?.fields ?? {}).filter(
        (field) => !named.has(field),
      );
      assert.deepEqual(missing, [], name);
    }
  });

  test('names tests that are there, but for what it says is not', () => {
    for (const [name, [here = '', , tests = '']] of rows) {
      const isThere = !/^(left out|not used yet)/.test(here);
      assert.equal(tests !== '', isThere, name);
      for (const file of tests.split(', ').filter(Boolean))
        assert.ok(existsSync(path.join(top, `test/${file}.test.ts`)), `${name}: ${file}`);
    }
  });

  test('names tests of what goes wrong that are there', () => {
    assert.ok(faults.size > 15, `${faults.size}`);
    for (const [what, tests] of faults)
      for (const file of tests)
        assert.ok(existsSync(path.join(top, `test/${file}.test.ts`)), `${what}: ${file}`);
  });
});
