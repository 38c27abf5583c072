/**
 * The prefix of a namespace: puts it before every key of a request, and takes it off every key of a reply, so that a client
 * of the namespace has keys of its own that begin nowhere else.
 */
import type {
  CompareInput,
  DeleteRangeResponse,
  KeyValue as WireKeyValue,
  PutResponse,
  RangeResponse,
  RequestOpInput,
  ResponseOp,
  TxnRequestInput,
  TxnResponse,
} from '../../proto/messages.gen.js';
import { type Bytes, prefixEnd } from '../../util/bytes.js';
import { encodeBytes } from '../kv/key-range.js';
import { KeyValue } from '../kv/key-value.js';
import type { WatchEvent } from '../watch/watch-event.js';

/** A key or range as a request has it. */
interface Keyed {
  readonly key?: Uint8Array | null | undefined;
  readonly rangeEnd?: Uint8Array | null | undefined;
}

const NOTHING = new Uint8Array(0);

export class KeyPrefix {
  readonly bytes: Uint8Array;
  /** Where the keys with the prefix end, as the wire has it. */
  readonly #end: Uint8Array;

  constructor(prefix: Bytes) {
    this.bytes = Uint8Array.from(encodeBytes(prefix, 'a namespace'));
    this.#end = prefixEnd(this.bytes);
  }

  key(key: Uint8Array): Uint8Array {
    return Buffer.concat([this.bytes, key]);
  }

  /** A key or a range, with all else that the request has. One to the end of all keys is one to the end of the namespace. */
  keyed<Request extends Keyed>(request: Request): Request {
    const key = this.key(request.key ?? NOTHING);
    const { rangeEnd } = request;
    if (rangeEnd == null || rangeEnd.length === 0) return { ...request, key };
    const isOpen = rangeEnd.length === 1 && rangeEnd[0] === 0;
    return { ...request, key, rangeEnd: isOpen ? this.#end : this.key(rangeEnd) };
  }

  txn(request: TxnRequestInput): TxnRequestInput {
    const { compare, failure, success } = request;
    return {
      ...request,
      compare: compare?.map((each: CompareInput) => this.keyed(each)),
      failure: failure?.map((step) => this.#step(step)),
      success: success?.map((step) => this.#step(step)),
    };
  }

  #step(step: RequestOpInput): RequestOpInput {
    if (step.requestRange != null) return { requestRange: this.keyed(step.requestRange) };
    if (step.requestPut != null) return { requestPut: this.keyed(step.requestPut) };
    if (step.requestDeleteRange != null) return { requestDeleteRange: this.keyed(step.requestDeleteRange) };
    return step.requestTxn == null ? step : { requestTxn: this.txn(step.requestTxn) };
  }

  /** A key of etcd as the namespace has it. */
  shortKey(key: Buffer): Buffer {
    return key.subarray(this.bytes.length);
  }

  has(key: Uint8Array): boolean {
    const { length } = this.bytes;
    return key.length > length && Buffer.compare(key.subarray(0, length), this.bytes) === 0;
  }

  events(events: readonly WatchEvent[]): readonly WatchEvent[] {
    return events.map(({ kv, prevKv, type }) => ({
      kv: this.#short(kv),
      prevKv: prevKv && this.#short(prevKv),
      type,
    }));
  }

  ranged(reply: RangeResponse): RangeResponse {
    return { ...reply, kvs: reply.kvs.map((kv) => this.#stripped(kv)) };
  }

  written(reply: PutResponse): PutResponse {
    return reply.prevKv === null ? reply : { ...reply, prevKv: this.#stripped(reply.prevKv) };
  }

  deleted(reply: DeleteRangeResponse): DeleteRangeResponse {
    return { ...reply, prevKvs: reply.prevKvs.map((kv) => this.#stripped(kv)) };
  }

  answered(reply: TxnResponse): TxnResponse {
    return { ...reply, responses: reply.responses.map((each) => this.#answer(each)) };
  }

  #answer(answer: ResponseOp): ResponseOp {
    if (answer.responseRange !== undefined)
      return { ...answer, responseRange: this.ranged(answer.responseRange) };
    if (answer.responsePut !== undefined) return { ...answer, responsePut: this.written(answer.responsePut) };
    if (answer.responseDeleteRange !== undefined)
      return { ...answer, responseDeleteRange: this.deleted(answer.responseDeleteRange) };
    if (answer.responseTxn === undefined) return answer;
    return { ...answer, responseTxn: this.answered(answer.responseTxn) };
  }

  #stripped(kv: WireKeyValue): WireKeyValue {
    return { ...kv, key: this.shortKey(kv.key) };
  }

  /** What was read from the wire already. */
  #short({ createRevision, keyBytes, leaseId = 0n, modRevision, value, version }: KeyValue): KeyValue {
    const key = this.shortKey(keyBytes);
    return new KeyValue({ createRevision, key, lease: leaseId, modRevision, value, version });
  }
}
