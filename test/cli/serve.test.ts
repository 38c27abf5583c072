import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client } from 'conclave';
import { conclave, Running, start } from './run.js';

describe('conclave serve', () => {
  it('serves etcd v3 at the address it prints until it is interrupted', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      await using server = start(['serve', '--port', '0', '--json']);
      const [line = ''] = await server.lines(1);
      const { endpoint, pid } = JSON.parse(line) as { endpoint: string; pid: number };
      assert.equal(pid, server.pid);
      await using client = new Client({ endpoints: [endpoint] });
      await client.kv.put('a', 'b');
      assert.equal((await client.kv.get('a'))?.string(), 'b');
      server.kill(signal);
      assert.equal(await server.ended, 0);
    }
  });

  it('run by npm ends with the signal that npm passes on', async () => {
    const script = fileURLToPath(new URL('../../../scripts/conclave.mjs', import.meta.url));
    await using server = new Running(process.execPath, [script, 'serve', '--port', '0', '--json']);
    const [line = ''] = await server.lines(1);
    assert.equal((JSON.parse(line) as { pid: number }).pid, server.pid);
    server.kill('SIGTERM');
    assert.equal(await server.ended, 0);
  });

  it('listens at a Unix socket, which it removes', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'conclave-cli-'));
    try {
      const socket = path.join(folder, 's');
      await using server = start(['serve', '--socket', socket]);
      assert.match((await server.lines(1))[0] ?? '', new RegExp(`unix://${socket}`));
      const { code } = await conclave(['lock', 'x', '--endpoints', `unix://${socket}`, '--', 'true']);
      assert.equal(code, 0);
      server.kill('SIGTERM');
      assert.equal(await server.ended, 0);
    } finally {
      rmSync(folder, { force: true, recursive: true });
    }
  });

  it('ends although connections are open that have said nothing, or not enough', async () => {
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
    await using server = start(['serve', '--port', '0', '--json']);
    const { endpoint } = JSON.parse((await server.lines(1))[0] ?? '') as { endpoint: string };
    const sockets = await Promise.all(
      ['', preface.slice(0, 10), preface].map(async (said) => {
        const socket = connect(Number(new URL(endpoint).port), '127.0.0.1');
        socket.on('error', () => undefined);
        await once(socket, 'connect');
        if (said !== '') await new Promise((resolve) => socket.write(said, resolve));
        return socket;
      }),
    );
    server.kill('SIGTERM');
    assert.equal(await server.ended, 0);
    for (const socket of sockets) socket.destroy();
  });

  it('says so when the port is taken, with exit code 69', async () => {
    await using server = start(['serve', '--port', '0', '--json']);
    const { endpoint } = JSON.parse((await server.lines(1))[0] ?? '') as { endpoint: string };
    const port = new URL(endpoint).port;
    const { code, stderr } = await conclave(['serve', '--port', port]);
    assert.equal(code, 69);
    assert.match(
      stderr,
      new RegExp(`^conclave serve: cannot listen at 127.0.0.1:${port}.*choose another --port.*\n$`),
    );
  });
});
