import { once } from 'node:events';
import { connect } from 'node:net';

import { ConclaveError } from '../errors/conclave-error.js';
import { type Address, parseEndpoint } from '../etcd/transport/address.js';
import { sleep } from '../util/abort.js';
import { systemClock } from '../util/clock.js';
import type { Target } from './connect.js';

/** A host that neither answers nor refuses for so long is left to the client, which waits longer. */
const SILENCE_MS = 500;

/**
 * Rejects with `UNAVAILABLE` when it is known at once that no endpoint can be reached: nobody listens there, or there is
 * no such host. A client would try until its deadline, which is right for one that lives long.
 */
export async function assertReachable({ endpoints, tls }: Target): Promise<void> {
  const over = new AbortController();
  const tries = endpoints.map((endpoint) => touch(parseEndpoint(endpoint, tls !== undefined), over.signal));
  try {
    await Promise.any(tries);
  } catch (error) {
    const reasons = (error as AggregateError).errors.map((each: Error) => each.message);
    throw new ConclaveError('UNAVAILABLE', reasons.join(', '), { cause: error });
  } finally {
    over.abort();
  }
}

/** Rejects when `address` refuses a connection. */
async function touch({ host, place, target }: Address, signal: AbortSignal): Promise<void> {
  const socket = connect(place);
  socket.on('error', () => undefined); // One that comes when nobody waits any more.
  try {
    await Promise.race([once(socket, 'connect', { signal }), sleep(systemClock, SILENCE_MS, signal)]);
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    if (code === 'ENOTFOUND') throw new Error(`there is no host ${host}`, { cause: error });
    const refused = code === 'ECONNREFUSED' || code === 'ENOENT';
    throw new Error(refused ? `nothing listens at ${target}` : `${target} cannot be reached (${code})`, {
      cause: error,
    });
  } finally {
    socket.destroy();
  }
}
