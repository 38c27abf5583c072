import { once } from 'node:events';
import { rm, stat } from 'node:fs/promises';
import { connect, createServer, type ListenOptions } from 'node:net';

import { Deferred } from '../util/deferred.js';

/**
 * Rejects with the machine's own error when nobody can listen at `place`. gRPC would say so in many words, and print some
 * of them itself. A Unix socket that a crashed server has left there is removed.
 */
export async function assertFree(place: ListenOptions): Promise<void> {
  if (place.path !== undefined) await clearStaleSocket(place.path);
  const server = createServer();
  server.listen(place);
  await once(server, 'listening');
  server.close();
  await once(server, 'close');
}

/** One that answers is left alone, and so is any other file. */
async function clearStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isSocket() !== true) return;
  const answer = new Deferred<boolean>();
  const socket = connect(path, () => answer.resolve(true));
  socket.on('error', () => answer.resolve(false));
  const alive = await answer.promise;
  socket.destroy();
  if (!alive) await rm(path, { force: true });
}
