/**
 * Reads a range from its beginning to its end, all of it at one revision, however long it is.
 *
 * The first page is one Range, which says what the revision is, and for most ranges is all. The rest comes as one
 * RangeStream, where the member has it (etcd 3.7): the server sends it in pieces of its own choice, and does not count
 * the rest of the range anew with each. Where the stream is cut, one more page is read behind the last key that came, at
 * the same revision, on whichever member answers; it also says what is wrong, should something be. A member that has no
 * RangeStream is asked for it once per connection, and for pages from then on.
 */
import { ConclaveError } from '../../errors/conclave-error.js';
import type { RangeRequestInput, RangeResponse } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { onAbort, OVER } from '../../util/abort.js';
import type { CallOptions } from '../transport/call.js';
import type { Endpoint } from '../transport/endpoint.js';
import type { Link } from '../transport/link.js';
import type { Name } from './calls.js';
import type { WireRange } from './key-range.js';
import { KeyValue } from './key-value.js';

/** What is read, and how. */
export interface Scan extends CallOptions, Name {
  readonly range: WireRange;
  readonly endpoint: Endpoint | undefined;
  /** undefined: that of the first page. */
  readonly revision: bigint | undefined;
  readonly keysOnly: boolean | undefined;
  readonly serializable: boolean | undefined;
  /** Keys in a page. */
  readonly pageSize: number;
  /** Whether all of it is read page by page. */
  readonly paged: boolean;
}

/** Yields each key of the range; see `Kv.scan`. */
export async function* scanRange(link: Link, scan: Scan): AsyncGenerator<KeyValue, void, undefined> {
  const place = new Place(scan);
  let mayStream = !scan.paged;
  for (;;) {
    const page = await readPage(link, scan, place.rest());
    for (const kv of place.pass(page)) yield kv;
    if (!page.more || page.kvs.length === 0) return;
    if (!mayStream) continue;
    let came = false;
    for await (const piece of piecesOf(link, scan, place.rest())) {
      came = true;
      if (piece === 'whole') return;
      for (const kv of place.pass(piece)) yield kv;
    }
    // One that breaks off before it has begun would only make each page slower.
    mayStream = came;
  }
}

/** How far a scan has come. */
class Place {
  readonly #scan: Scan;
  #key: Uint8Array;
  #revision: bigint | undefined;
  #clusterId: bigint | undefined;

  constructor(scan: Scan) {
    this.#scan = scan;
    this.#key = scan.range.key;
    this.#revision = scan.revision;
  }

  /** What is left of the range. */
  rest(): RangeRequestInput {
    const { keysOnly, range, serializable } = this.#scan;
    return { key: this.#key, keysOnly, rangeEnd: range.rangeEnd, revision: this.#revision, serializable };
  }

  /** The keys of a reply. The next one to be asked for is behind those that were taken. */
  *pass({ header, kvs }: Pick<RangeResponse, 'header' | 'kvs'>): Generator<KeyValue, void, undefined> {
    if (header !== null) this.#check(header);
    const last = kvs.at(-1);
    if (last !== undefined) this.#key = Buffer.concat([last.key, Uint8Array.of(0)]);
    for (const kv of kvs) yield new KeyValue(kv);
  }

  #check({ clusterId, revision }: NonNullable<RangeResponse['header']>): void {
    this.#revision ??= revision;
    // A part of a stream may have some of the header only.
    if (clusterId === 0n) return;
    this.#clusterId ??= clusterId;
    if (clusterId === this.#clusterId) return;
    const { key, what } = this.#scan;
    const text = `${what}: another cluster answers than the one that it began on; read anew`;
    throw new ConclaveError('HISTORY_REVERTED', text, { key });
  }
}

function readPage(link: Link, scan: Scan, rest: RangeRequestInput): Promise<RangeResponse> {
  const { endpoint, key, pageSize, signal, timeoutMs, what } = scan;
  return link.unary({
    endpoint,
    heavy: true,
    key,
    kind: 'read',
    request: { ...rest, limit: BigInt(pageSize) },
    rpc: services.KV.Range,
    signal,
    timeoutMs,
    what,
  });
}

/**
 * What is left of the range, piece by piece, and `whole` once all of it has come. It ends without that when the member has
 * no RangeStream, the stream fails, or keeps silent for the time of a call.
 */
async function* piecesOf(
  link: Link,
  { endpoint, key, signal, timeoutMs = link.timeoutMs, what }: Scan,
  rest: RangeRequestInput,
): AsyncGenerator<RangeResponse | 'whole', void, undefined> {
  const stop = new AbortController();
  const stops = [signal, link.closed].map((each) => onAbort(each, () => stop.abort(OVER)));
  const inTime = async <T>(wait: Promise<T>): Promise<T> => {
    const timer = timeoutMs === Infinity ? undefined : link.clock.setTimer(timeoutMs, () => stop.abort(OVER));
    try {
      return await wait;
    } finally {
      timer?.cancel();
    }
  };
  try {
    const call = { endpoint, key, request: rest, rpc: services.KV.RangeStream, signal: stop.signal, what };
    const parts = await inTime(link.parts(call)).catch(() => undefined);
    if (parts === undefined) return;
    let isWhole = false;
    for (;;) {
      // Whatever has gone wrong, the page that is read next tells, if it is still so.
      const part = await inTime(parts.next()).catch(() => 'failed' as const);
      if (part === 'failed') return;
      if (part === undefined) {
        if (isWhole) yield 'whole';
        return;
      }
      const { rangeResponse } = part;
      if (rangeResponse === null) continue;
      // All parts together are what Range answers, so one of them has the header.
      isWhole ||= rangeResponse.header !== null;
      yield rangeResponse;
    }
  } finally {
    for (const each of stops) each();
    stop.abort(OVER);
  }
}
