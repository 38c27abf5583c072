/** Connections of TLS that Node does not notice to be gone. */
import type { Socket } from 'node:net';

import type { ChannelCredentials } from '@grpc/grpc-js';

import { setIdleTimer } from '../../util/clock.js';

/** What of a socket's handle is looked at; Node does not document it, so any of it may be missing. */
interface Handle {
  readonly writeQueueSize?: number;
  readStart?(): unknown;
}

/** How often each connection is looked at. */
const LOOK_MS = 250;

/**
 * When a peer resets a connection while something is being written, TLS of Node (20 to 26) may wait for ever: what was written
 * stays in its queue, the socket below it has nothing to write, and nobody reads any more, so that the reset is never seen.
 * gRPC's pings find that out after 8 s. Reading again shows it at once; where all is well, that does nothing.
 */
export function noticeResets(made: ChannelCredentials): ChannelCredentials {
  const create = made._createSecureConnector.bind(made);
  made._createSecureConnector = (...args) => {
    const connector = create(...args);
    const connect = connector.connect.bind(connector);
    connector.connect = async (below) => {
      const result = await connect(below);
      lookAfter(result.socket);
      return result;
    };
    return connector;
  };
  return made;
}

function lookAfter(socket: Socket): void {
  let wasStuck = false;
  const look = (): void => {
    const stuck = isStuck(socket);
    if (stuck && wasStuck) handleOf(socket)?.readStart?.();
    wasStuck = stuck;
    if (!socket.destroyed) timer = setIdleTimer(LOOK_MS, look);
  };
  let timer = setIdleTimer(LOOK_MS, look);
  socket.once('close', () => timer.cancel());
}

/** Whether TLS waits for the socket below it to write something, which has nothing to write. */
function isStuck(socket: Socket): boolean {
  const { _parent: below } = socket as unknown as { readonly _parent?: Socket };
  const [above, beneath] = [handleOf(socket)?.writeQueueSize, handleOf(below)?.writeQueueSize];
  return above !== undefined && above > 0 && beneath === 0;
}

function handleOf(socket: Socket | undefined): Handle | undefined {
  return (socket as unknown as { readonly _handle?: Handle } | undefined)?._handle;
}
