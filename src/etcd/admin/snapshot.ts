/** Downloads a member's database, and makes sure that what came is the whole of it. */
import { createHash } from 'node:crypto';

import { ConclaveError } from '../../errors/conclave-error.js';
import { services } from '../../proto/services.js';
import { onAbort } from '../../util/abort.js';
import type { Timer } from '../../util/clock.js';
import type { CallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import { openParts } from '../transport/parts.js';

/** Which member, and for how long. */
export interface Download extends CallOptions {
  readonly endpoint: Endpoint | undefined;
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
    const rpc = services.Maintenance.Snapshot;
    const call = { endpoint, request: {}, rpc, signal: stop.signal, what: WHAT };
    const parts = await openParts(connection, call);
    // Without a limit of the caller's it may take as long as it takes; a member that is gone is noticed by pings.
    if (timeoutMs === undefined) timer.cancel();
    for (let part = await parts.next(); part !== undefined; part = await parts.next()) {
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
