import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { type EtcdCluster, startEtcd } from 'conclave/testing';
import { conclave } from './run.js';

describe('conclave lock with TLS and a user (etcd)', () => {
  let cluster: EtcdCluster;
  let folder: string;
  const file = (name: string): string => path.join(folder, name);

  before(async () => {
    cluster = await startEtcd({ auth: { rootPassword: 'secret' }, tls: true });
    folder = mkdtempSync(path.join(tmpdir(), 'conclave-cli-'));
    writeFileSync(file('ca.pem'), cluster.tls?.ca ?? '');
    writeFileSync(file('stranger.pem'), cluster.strangerTls?.ca ?? '');
  });

  after(async () => {
    await cluster.close();
    rmSync(folder, { force: true, recursive: true });
  });

  async function lock(
    ca: string,
    ...options: string[]
  ): Promise<{ code: unknown; stdout: string; stderr: string }> {
    const named = ['--endpoints', cluster.endpoint, '--cacert', file(ca)];
    return conclave(['lock', 'x', ...named, ...options, '--', 'echo', 'ran']);
  }

  it('works with the right authority and password, from options or the environment', async () => {
    const typed = await lock('ca.pem', '--user', 'root:secret');
    assert.deepEqual([typed.code, typed.stdout], [0, 'ran\n'], typed.stderr);
    const { code, stdout } = await conclave(['lock', 'x', '--', 'echo', 'ran'], {
      env: {
        CONCLAVE_ENDPOINTS: cluster.endpoint,
        CONCLAVE_PASSWORD: 'secret',
        CONCLAVE_USER: 'root',
        ETCDCTL_CACERT: file('ca.pem'),
      },
    });
    assert.deepEqual([code, stdout], [0, 'ran\n']);
  });

  it('says what is wrong with a wrong authority, a wrong password and no user', async () => {
    const wrong = [
      [await lock('stranger.pem', '--user', 'root:secret'), /TLS.*failed.*check --cacert/],
      [await lock('ca.pem', '--user', 'root:guess'), /"root".*invalid user ID or password; check --user/],
      [await lock('ca.pem'), /user.*give --user NAME:PASSWORD/],
    ] as const;
    for (const [{ code, stdout, stderr }, wanted] of wrong) {
      assert.equal(code, 69, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, wanted);
    }
  });
});
