import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { FaultProxy } from 'conclave/testing';
import { until } from '../support/until.js';

/** A client socket and all it has received. */
interface Line {
  readonly socket: Socket;
  text: () => string;
  /** How it ended: `undefined` while it has not. */
  ended: () => 'closed' | 'reset' | undefined;
}

describe('FaultProxy on bytes', () => {
  let server: Server;
  let proxy: FaultProxy;
  const atServer: Socket[] = [];
  const lines: Line[] = [];

  before(async () => {
    server = createServer({ allowHalfOpen: true }, (socket) => {
      atServer.push(socket);
      socket.on('error', () => undefined);
      socket.pipe(socket);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(() => server.close());
  beforeEach(async () => {
    const { port } = server.address() as { port: number };
    proxy = await FaultProxy.start({ host: '127.0.0.1', port });
  });
  afterEach(async () => {
    for (const { socket } of lines.splice(0)) socket.destroy();
    await proxy.close();
    await until(() => atServer.every((socket) => socket.destroyed), {
      what: 'the server has no connection left',
    });
    atServer.length = 0;
  });

  async function dial(): Promise<Line> {
    const socket = connect({ port: proxy.port, host: '127.0.0.1' });
    let text = '';
    let ended: 'closed' | 'reset' | undefined;
    socket.on('data', (bytes) => (text += bytes.toString()));
    socket.on('error', () => (ended = 'reset'));
    socket.on('close', () => (ended ??= 'closed'));
    const line = { socket, text: () => text, ended: () => ended };
    lines.push(line);
    await once(socket, 'connect');
    await proxy.waitFor((p) => p.accepted >= lines.length);
    return line;
  }

  test('is transparent: megabytes come back as they were, and an end is an end', async () => {
    const data = randomBytes(8 * 1024 * 1024);
    const socket = connect({ port: proxy.port, host: '127.0.0.1' });
    const back: Buffer[] = [];
    socket.on('data', (bytes) => back.push(bytes));
    socket.end(data);
    await once(socket, 'end');
    assert.ok(Buffer.concat(back).equals(data));
    await proxy.waitFor((p) => p.connections === 0);
    assert.equal(proxy.accepted, 1);
  });

  test('pause holds one direction; resume delivers it in order', async () => {
    const { socket, text } = await dial();
    proxy.pause('toClient');
    socket.write('one ');
    await until(() => atServer[0]?.bytesRead === 4, { what: 'the server has read it' });
    socket.write('two');
    await until(() => atServer[0]?.bytesRead === 7);
    assert.equal(text(), '');
    proxy.resume();
    await until(() => text() === 'one two');
  });

  test('drop is silent: nothing arrives and nothing closes, until resume cuts what lost bytes', async () => {
    const old = await dial();
    const idle = await dial();
    proxy.drop();
    old.socket.write('lost');
    const fresh = await dial();
    fresh.socket.write('lost too');
    await until(() => proxy.connections === 3);
    idle.socket.pause();
    assert.equal(old.ended(), undefined);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(
      atServer.reduce((sum, socket) => sum + socket.bytesRead, 0),
      0,
    );
    proxy.resume();
    await until(() => old.ended() === 'reset' && fresh.ended() === 'reset');
    idle.socket.resume();
    idle.socket.write('alive');
    await until(() => idle.text() === 'alive');
  });

  test('a fault on existing connections leaves new ones alone, and the other way round', async () => {
    const old = await dial();
    proxy.drop('both', 'existing');
    const fresh = await dial();
    old.socket.write('x');
    fresh.socket.write('y');
    await until(() => fresh.text() === 'y');
    assert.equal(old.text(), '');
    proxy.resume();
    proxy.pause('both', 'new');
    const held = await dial();
    held.socket.write('z');
    fresh.socket.write('y');
    await until(() => fresh.text() === 'yy');
    assert.equal(held.text(), '');
    proxy.resume();
    await until(() => held.text() === 'z');
  });

  test('cut resets both sides', async () => {
    const line = await dial();
    line.socket.write('x');
    await until(() => line.text() === 'x');
    proxy.cut();
    await until(() => line.ended() === 'reset');
    await until(() => atServer[0]?.destroyed === true);
    await proxy.waitFor((p) => p.connections === 0);
  });

  test('refuse turns new connections away and keeps those that are there; accept is the same port again', async () => {
    const line = await dial();
    await proxy.refuse();
    await assert.rejects(once(connect({ port: proxy.port, host: '127.0.0.1' }), 'connect'), {
      code: 'ECONNREFUSED',
    });
    line.socket.write('x');
    await until(() => line.text() === 'x');
    await proxy.accept();
    const again = await dial();
    again.socket.write('y');
    await until(() => again.text() === 'y');
  });

  test('delay keeps the order and adds its time each way', async () => {
    const { socket, text } = await dial();
    proxy.delay(40);
    const from = performance.now();
    socket.write('a');
    socket.write('b');
    await until(() => text() === 'ab');
    assert.ok(performance.now() - from >= 79, `took ${performance.now() - from} ms`);
    proxy.delay(0);
    socket.write('c');
    await until(() => text() === 'abc');
  });

  test('a target that is not there resets the client', async () => {
    await using dead = await FaultProxy.start('127.0.0.1:1');
    const socket = connect({ port: dead.port, host: '127.0.0.1' });
    await assert.rejects(once(socket, 'end'), { code: 'ECONNRESET' });
  });

  test('a wait for a fact that never comes rejects and names it', async () => {
    await assert.rejects(
      proxy.waitFor((p) => p.accepted > 5, { timeoutMs: 20, what: 'five connections' }),
      /not true after 20 ms: five connections/,
    );
    assert.throws(() => proxy.requests('/x'), /grpc: true/);
  });

  test('heal ends every fault', async () => {
    proxy.drop();
    proxy.delay(1000);
    await proxy.refuse();
    await proxy.heal();
    const line = await dial();
    line.socket.write('x');
    await until(() => line.text() === 'x');
  });
});
