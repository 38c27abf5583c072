import { createServer } from 'node:net';
import { once } from 'node:events';

// Below 32768: never a port that an outgoing connection was given by Linux, so a closed port cannot be taken by a client
// that keeps dialling it (it would connect to itself).
const LOWEST = 15_000;
const HIGHEST = 32_000;
const TRIES = 200;

/** Whether nobody listens on the port of 127.0.0.1 at this moment. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen({ port, host: '127.0.0.1', exclusive: true });
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}

/** `count` different ports of 127.0.0.1 that are free now. Another process may still take one first: be ready to ask again. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  for (let tries = 0; ports.size < count; tries++) {
    if (tries > TRIES) throw new Error(`no ${count} free ports of 127.0.0.1 found in ${LOWEST}-${HIGHEST}`);
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
    if (!ports.has(port) && (await isFree(port))) ports.add(port);
  }
  return [...ports];
}
