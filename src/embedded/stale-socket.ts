import { rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';

import { Deferred } from '../util/deferred.js';

/** Removes the Unix socket a crashed server has left at `path`. One that answers is left alone, and so is any other file. */
export async function clearStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isSocket() !== true) return;
  const answer = new Deferred<boolean>();
  const socket = connect(path, () => answer.resolve(true));
  socket.on('error', () => answer.resolve(false));
  const alive = await answer.promise;
  socket.destroy();
  if (!alive) await rm(path, { force: true });
}
