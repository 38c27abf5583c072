import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { build } from 'esbuild';

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
  return kv?.modRevision ?? new Mutex(session, 'm').name.length === 1 ? 1n : lock.fencingToken;
}
export const others = [ConclaveError, FaultProxy, ManualClock, startEtcd] as const;
`;

describe('the npm package', () => {
  let folder = '';
  let files: string[] = [];

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'conclave-package-'));
    const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
    const { stdout } = await exec('npm', pack, { cwd: top });
    const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
    assert.ok(packed);
    files = packed.files.map((file) => file.path);
    await mkdir(path.join(folder, 'node_modules'));
    await exec('tar', ['-xzf', packed.filename], { cwd: folder });
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
    const known = /^(dist\/.+\.(js|d\.ts)|proto\/\w+\.proto|package\.json|README\.md|CHANGELOG\.md|LICENSE)$/;
    assert.deepEqual(
      files.filter((file) => !known.test(file)),
      [],
    );
    for (const wanted of ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'README.md', 'LICENSE']) {
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

  for (const [module, resolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ] as const) {
    it(`has types that resolve with moduleResolution ${resolution}`, async () => {
      await writeFile(path.join(folder, 'consumer.mts'), CONSUMER);
      const options = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2023,esnext.disposable'];
      const modules = ['--module', module, '--moduleResolution', resolution, '--types', 'node'];
      const tsc = path.join(top, 'node_modules/typescript/bin/tsc');
      const { stdout } = await exec(process.execPath, [tsc, ...options, ...modules, 'consumer.mts'], {
        cwd: folder,
      }).catch((error: unknown) => error as { stdout: string });
      assert.equal(stdout, '');
    });
  }
});
