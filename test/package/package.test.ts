import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { type Analysis, checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { build } from 'esbuild';
import { publint } from 'publint';

const exec = promisify(execFile);
const top = fileURLToPath(new URL('../../..', import.meta.url));

/** A program that uses every entry point, prints one line, and must exit by itself. */
const PROGRAM = `
async function main(EmbeddedServer, { Client, Session, Mutex }, ManualClock) {
  const server = await EmbeddedServer.start({ port: 0 });
  const client = new Client({ endpoints: [server.endpoint] });
  const session = await Session.open(client, { ttlSeconds: 5 });
  const lock = await new Mutex(session, 'packed').lock();
  const life = await client.lease.timeToLive(session.leaseId);
  console.log(typeof lock.fencingToken, life.id === session.leaseId, new ManualClock().now());
  await lock.unlock();
  await session.close();
  await client.close();
  await server.close();
}
`;
const PRINTED = 'bigint true 0\n';

const CONSUMER = `
import { Client, ConclaveError, Election, Mutex, Session, compare, op, type Lock } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { FaultProxy, ManualClock, startEtcd } from 'conclave/testing';

export async function use(lock: Lock): Promise<bigint> {
  const server: EmbeddedServer = await EmbeddedServer.start({ port: 0 });
  const client = new Client({ endpoints: [server.endpoint] });
  const session = await Session.open(client, { ttlSeconds: 10 });
  await new Election(session, 'e').campaign('me');
  const kv = await client.kv.get('a');
  await lock.txn({ if: [compare.exists('a')], then: [op.put('a', 'b')] });
  // @ts-expect-error: what is not there is a mistake, so the declarations were found.
  void session.nothingOfTheKind;
  // @ts-expect-error: what only our own rooms use is not declared.
  void session.leaseIsGone;
  return kv?.modRevision ?? new Mutex(session, 'm').name.length === 1 ? 1n : lock.fencingToken;
}
export const others = [ConclaveError, FaultProxy, ManualClock, startEtcd] as const;
`;

/** Where it can be built from nothing and packed, which changes lib/, while other tests use ours. */
async function copyOfSources(folder: string): Promise<string> {
  await mkdir(folder);
  const { files } = JSON.parse(await readFile(path.join(top, 'package.json'), 'utf8')) as { files: string[] };
  const needed = [
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'README.md',
    'LICENSE',
    'src',
    'scripts',
  ];
  await exec('cp', ['-a', ...needed, ...files.filter((file) => file !== 'lib'), folder], { cwd: top });
  await exec('find', ['src', '-name', '*.gen.ts', '-delete'], { cwd: folder });
  await symlink(path.join(top, 'node_modules'), path.join(folder, 'node_modules'));
  return folder;
}

describe('the npm package', () => {
  let folder = '';
  let files: string[] = [];
  let tarball = '';

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'conclave-package-'));
    const checkout = await copyOfSources(path.join(folder, 'checkout'));
    const { stdout } = await exec('npm', ['pack', '--json', '--pack-destination', folder], { cwd: checkout });
    const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
    assert.ok(packed);
    files = packed.files.map((file) => file.path);
    tarball = path.join(folder, packed.filename);
    await mkdir(path.join(folder, 'node_modules'));
    await exec('tar', ['-xzf', tarball], { cwd: folder });
    assert.match(await readFile(path.join(checkout, 'lib/index.js'), 'utf8'), /dist/, 'a checkout’s again');
    const dependencies = Object.keys(
      (JSON.parse(await readFile(path.join(top, 'package.json'), 'utf8')) as { dependencies: object })
        .dependencies,
    );
    await mkdir(path.join(folder, 'node_modules/@grpc'));
    await mkdir(path.join(folder, 'node_modules/@types'));
    for (const name of [...dependencies, '@types/node']) {
      await symlink(path.join(top, 'node_modules', name), path.join(folder, 'node_modules', name));
    }
    await symlink(path.join(folder, 'package'), path.join(folder, 'node_modules/conclave'));
  });

  after(() => rm(folder, { force: true, recursive: true }));

  it('holds what users need and nothing else', () => {
    const known =
      /^(lib\/[\w.-]+\.(c?js|d\.c?ts)|(docs|examples)\/.+|proto\/\w+\.proto|package\.json|README\.md|ARCHITECTURE\.md|CHANGELOG\.md|CONTRIBUTING\.md|LICENSE)$/;
    assert.deepEqual(
      files.filter((file) => !known.test(file)),
      [],
    );
    for (const wanted of [
      'lib/index.js',
      'lib/index.cjs',
      'lib/cli.js',
      'docs/errors.md',
      'README.md',
      'LICENSE',
    ]) {
      assert.ok(files.includes(wanted), `${wanted} is missing`);
    }
  });

  it('is imported as ESM, with every entry point', async () => {
    const imports = `import { EmbeddedServer } from 'conclave/embedded';\nimport * as conclave from 'conclave';\nimport { ManualClock } from 'conclave/testing';`;
    const file = path.join(folder, 'use.mjs');
    await writeFile(file, `${imports}\n${PROGRAM}\nawait main(EmbeddedServer, conclave, ManualClock);`);
    const { stdout } = await exec(process.execPath, [file]);
    assert.equal(stdout, PRINTED);
  });

  it('is built from the same bytes every time', async () => {
    const [ours, theirs] = [path.join(top, 'dist'), path.join(folder, 'checkout/dist')];
    const { stdout } = await exec('diff', ['-rq', ours, theirs]).catch(
      (error: unknown) => error as { stdout: string },
    );
    assert.equal(stdout, '');
  });

  it('is as publint and “are the types wrong” want it', async () => {
    const { messages } = await publint({ pack: false, pkgDir: path.join(folder, 'package'), strict: true });
    assert.deepEqual(messages, []);
    const { problems } = (await checkPackage(
      createPackageFromTarballData(await readFile(tarball)),
    )) as Analysis;
    assert.deepEqual(problems, []);
  });

  it('leads from the README to files that are in it', async () => {
    const pages = files.filter((file) => file.endsWith('.md'));
    for (const page of pages) {
      const text = await readFile(path.join(folder, 'package', page), 'utf8');
      for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)#\s]+)/g)) {
        const file = path.posix.join(path.posix.dirname(page), target).replace(/\/$/, '');
        const isThere = files.some((each) => each === file || each.startsWith(`${file}/`));
        assert.ok(isThere, `${page} leads to ${target}`);
      }
    }
  });

  it('is one, though it is loaded in both forms', async () => {
    const peer = path.join(folder, 'node_modules/@opentelemetry');
    const without = exec(process.execPath, ['-e', "require('conclave/otel')"], { cwd: folder });
    await assert.rejects(without, /Cannot find module '@opentelemetry\/api'/);
    await symlink(path.join(top, 'node_modules/@opentelemetry'), peer);
    const file = path.join(folder, 'both.mjs');
    const text = `import { createRequire } from 'node:module';
      const require = createRequire(import.meta.url);
      for (const name of ['conclave', 'conclave/embedded', 'conclave/keys', 'conclave/otel', 'conclave/testing']) {
        const [imported, required] = [await import(name), require(name)];
        const names = Object.keys(required);
        console.log(names.length > 0 && names.every((each) => imported[each] === required[each]));
      }`;
    await writeFile(file, text);
    const { stdout } = await exec(process.execPath, [file]);
    assert.equal(stdout, 'true\n'.repeat(5));
  });

  it('is loaded by require', async () => {
    const call = `main(require('conclave/embedded').EmbeddedServer, require('conclave'), require('conclave/testing').ManualClock);`;
    const file = path.join(folder, 'use.cjs');
    await writeFile(file, `${PROGRAM}\n${call}`);
    const { stdout } = await exec(process.execPath, [file]);
    assert.equal(stdout, PRINTED);
  });

  it('runs after being bundled into one file and started from an empty folder', async () => {
    const imports = `import { EmbeddedServer } from 'conclave/embedded';\nimport * as conclave from 'conclave';\nimport { ManualClock } from 'conclave/testing';`;
    const source = path.join(folder, 'bundle.mjs');
    await writeFile(source, `${imports}\n${PROGRAM}\nvoid main(EmbeddedServer, conclave, ManualClock);`);
    const empty = await mkdtemp(path.join(tmpdir(), 'conclave-empty-'));
    try {
      const outfile = path.join(empty, 'app.cjs');
      await build({
        bundle: true,
        entryPoints: [source],
        format: 'cjs',
        logLevel: 'error',
        outfile,
        platform: 'node',
      });
      const { stdout } = await exec(process.execPath, [outfile], { cwd: empty });
      assert.equal(stdout, PRINTED);
    } finally {
      await rm(empty, { force: true, recursive: true });
    }
  });

  for (const [module, resolution, file] of [
    ['nodenext', 'nodenext', 'consumer.mts'],
    ['node16', 'node16', 'consumer.cts'],
    ['commonjs', 'node10', 'consumer.cts'],
    ['esnext', 'bundler', 'consumer.mts'],
  ] as const) {
    it(`has types that resolve with moduleResolution ${resolution} from ${file}`, async () => {
      await writeFile(path.join(folder, file), CONSUMER);
      const options = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2023,esnext.disposable'];
      const modules = ['--module', module, '--moduleResolution', resolution, '--types', 'node'];
      if (resolution === 'node10') modules.push('--ignoreDeprecations', '6.0');
      const tsc = path.join(top, 'node_modules/typescript/bin/tsc');
      const { stdout } = await exec(process.execPath, [tsc, ...options, ...modules, file], {
        cwd: folder,
      }).catch((error: unknown) => error as { stdout: string });
      assert.equal(stdout, '');
    });
  }
});
