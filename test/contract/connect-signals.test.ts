import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { JobQueue, Session } from 'conclave';

import { onEachBackend } from '../support/backends.js';
import { until } from '../support/until.js';

const program = fileURLToPath(new URL('connect-child.js', import.meta.url));

onEachBackend('a process on connect() that is asked to end', (backend) => {
  for (const second of [false, true]) {
    test(
      second
        ? 'ends at once at a second signal'
        : 'ends what it does, gives all back, and ends by the signal that it got',
      async () => {
        const client = backend.client();
        await using session = await Session.open(client, { ttlSeconds: 5 });
        await using queue = new JobQueue<number>(session, 'child');
        await queue.push(7);
        const child = spawn(
          process.execPath,
          [program, ...backend.endpoints, second ? 'stubborn' : 'willing'],
          {
            stdio: ['ignore', 'pipe', 'inherit'],
          },
        );
        const ended = once(child, 'close');
        try {
          let said = '';
          child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
          await until(() => said.includes('ready'), { timeoutMs: 30_000 });
          assert.equal(child.kill('SIGTERM'), true);
          if (second) {
            // It listens no more once it has begun to close, so this one does what it does to any process.
            await until(() => {
              child.kill('SIGTERM');
              return child.signalCode !== null;
            });
            assert.deepEqual(await ended, [null, 'SIGTERM']);
            // Nothing was given back: its lease would run out.
            for (const id of await client.lease.list())
              if (id !== session.leaseId) await client.lease.revoke(id);
            await (await queue.dequeue({ timeoutMs: 10_000 })).ack();
            return;
          }
          assert.deepEqual(await ended, [null, 'SIGTERM']);
          assert.ok(said.includes('did 7') && said.includes('led'), said);
          assert.deepEqual(await client.lease.list(), [session.leaseId]);
          assert.deepEqual(await queue.counts(), { active: 0, dead: 0, delayed: 0, waiting: 0 });
        } finally {
          child.kill('SIGKILL');
        }
      },
    );
  }
});
