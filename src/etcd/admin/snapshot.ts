/** Downloads a member's database, and makes sure that what came is the whole of it. */
import { createHash } from 'node:crypto';
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';

import { ConclaveError, hasCode } from '../../errors/conclave-error.js';
import type { SnapshotResponse } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { onAbort, orAborted } from '../../util/abort.js';
import type { Timer } from '../../util/clock.js';
import type { CallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import { readFailure } from '../transport/status.js';

/** Which member, and for how long. */
export interface Download extends CallOptions {
  readonly endpoint: Endpoint | undefined;
}

/** A database that is coming. */
interface Arriving {
  readonly first: SnapshotResponse | undefined;
  readonly rest: AsyncIterator<SnapshotResponse, undefined>;
}

const WHAT = 'snapshot';
const SHA_BYTES = 32;

/** Yields the database piece by piece, with its sha256 as the last 32 bytes; see `Maintenance.snapshot`. */
export async function* downloadSnapshot(
  connection: Connection,
  { endpoint, signal, timeoutMs }: Download,
): AsyncGenerator<Buffer, void, undefined> {
  const { clock, closed } = connection;
  const stop = new AbortController();
  const setLimit = (limitMs: number): Timer =>
    clock.setTimer(limitMs, () => {
      const text = `${WHAT}: ${endpoint?.url ?? 'the member'} did not answer within ${String(limitMs)} ms`;
      stop.abort(new ConclaveError('DEADLINE_EXCEEDED', text));
    });
  const timer = setLimit(timeoutMs ?? connection.timeoutMs);
  const stops = [signal, closed].map((each) => onAbort(each, (reason) => stop.abort(reason)));
  const checksum = new Checksum();
  try {
    const { first, rest } = await begin(connection, endpoint, stop.signal);
    // Without a limit of the caller's it may take as long as it takes; a member that is gone is noticed by pings.
    if (timeoutMs === undefined) timer.cancel();
    for (let part = first; part !== undefined; part = await nextPart(rest, endpoint, stop.signal)) {
      checksum.add(part.blob);
      yield part.blob;
    }
    if (!checksum.isWhole())
      throw new ConclaveError('UNAVAILABLE', `${WHAT}: the member ended it before it was whole; try again`);
  } finally {
    timer.cancel();
    for (const each of stops) each();
    stop.abort(); // Ends the stream, if the reader has left.
  }
}

/** Opens the stream and waits for its first part, with a new token if the first one is refused. */
async function begin(
  connection: Connection,
  endpoint: Endpoint | undefined,
  signal: AbortSignal,
): Promise<Arriving> {
  for (let refusals = 0; ; refusals++) {
    const stream = await connection.download(services.Maintenance.Snapshot, {}, { endpoint, signal });
    const token = connection.token.current;
    stream.on('error', () => undefined); // The iterator tells; nobody listens once the reader has left.
    onAbort(signal, () => stream.cancel());
    const rest = partsOf(stream);
    try {
      return { first: await nextPart(rest, endpoint, signal), rest };
    } catch (error) {
      const refused = hasCode(error, 'INVALID_AUTH_TOKEN', 'AUTH_OLD_REVISION', 'USER_EMPTY');
      const mayPass = connection.token.renewable || hasCode(error, 'AUTH_OLD_REVISION');
      if (!refused || !mayPass || refusals > 1) throw error;
      connection.token.drop(token);
    }
  }
}

function partsOf(stream: ClientReadableStream<SnapshotResponse>): AsyncIterator<SnapshotResponse, undefined> {
  return stream[Symbol.asyncIterator]() as AsyncIterator<SnapshotResponse, undefined>;
}

/** The next part; undefined at the end. Rejects with the signal's reason once it has aborted. */
async function nextPart(
  parts: AsyncIterator<SnapshotResponse, undefined>,
  endpoint: Endpoint | undefined,
  signal: AbortSignal,
): Promise<SnapshotResponse | undefined> {
  signal.throwIfAborted();
  try {
    return (await orAborted(parts.next(), signal)).value;
  } catch (error) {
    signal.throwIfAborted();
    throw readFailure(error as ServiceError, WHAT, endpoint ?? { url: 'a member' }).error;
  }
}

/** Whether bytes end with the sha256 of all that came before. */
class Checksum {
  readonly #hash = createHash('sha256');
  #tail = Buffer.alloc(0);

  add(bytes: Uint8Array): void {
    const known = Buffer.concat([this.#tail, bytes]);
    const split = Math.max(0, known.length - SHA_BYTES);
    this.#hash.update(known.subarray(0, split));
    this.#tail = Buffer.from(known.subarray(split));
  }

  /** To be asked once, at the end. */
  isWhole(): boolean {
    return this.#hash.digest().equals(this.#tail);
  }
}
