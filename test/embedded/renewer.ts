// A client in a thread of its own: renews leases every so often, whatever the server's thread does. Its data are given to it.
import { parentPort, workerData } from 'node:worker_threads';

import { services } from '#conclave/proto/services.js';

import { BareChannel } from '../support/bare-channel.js';

const { endpoint, everyMs, ids } = workerData as { endpoint: string; everyMs: number; ids: bigint[] };
const { path, requestSerialize, responseDeserialize } = services.Lease.LeaseKeepAlive;
const stream = new BareChannel(endpoint).grpc.makeBidiStreamRequest(
  path,
  requestSerialize,
  responseDeserialize,
);
const renew = (): void => ids.forEach((ID) => void stream.write({ ID }));
stream.on('error', () => undefined);
stream.once('data', () => parentPort?.postMessage('renewed'));
setInterval(renew, everyMs);
renew();
