/**
 * Transactions inside transactions, as deep as etcd takes them. protobufjs goes 100 messages deep and no further, which is 50
 * transactions; so here each level is a message of its own, and the levels inside it are bytes to it. On the wire that is the same.
 */
import type {
  RequestOp,
  RequestOpInput,
  ResponseOpInput,
  Services,
  TxnRequest,
  TxnRequestInput,
  TxnResponse,
  TxnResponseInput,
} from './messages.gen.js';

type TxnRpc = Services['KV']['Txn'];
/** A message type of the descriptor. */
interface MessageJson {
  readonly fields: Readonly<Record<string, unknown>>;
}
interface NamespaceJson {
  readonly nested: Readonly<Record<string, unknown>>;
}

/**
 * Each level has one operation at least, and etcd allows 128 in all levels together: what is inside the 129th is never looked at,
 * and is left empty.
 */
const DEEPEST = 129;

/** The descriptor with the transactions inside operations as bytes. */
export function flattened(descriptor: NamespaceJson): NamespaceJson {
  const { etcdserverpb } = descriptor.nested as Record<'etcdserverpb', NamespaceJson>;
  const { RequestOp, ResponseOp } = etcdserverpb.nested as Record<'RequestOp' | 'ResponseOp', MessageJson>;
  const withBytes = (message: MessageJson, field: string): MessageJson => ({
    ...message,
    fields: { ...message.fields, [field]: { id: 4, type: 'bytes' } },
  });
  const nested = {
    ...etcdserverpb.nested,
    RequestOp: withBytes(RequestOp, 'requestTxn'),
    ResponseOp: withBytes(ResponseOp, 'responseTxn'),
  };
  return { ...descriptor, nested: { ...descriptor.nested, etcdserverpb: { ...etcdserverpb, nested } } };
}

/** The rpc of the flattened descriptor as one of whole messages. */
export function deepTxn(flat: TxnRpc): TxnRpc {
  const requestSerialize = (request: TxnRequestInput): Buffer =>
    flat.requestSerialize({
      ...request,
      failure: request.failure?.map(packRequest),
      success: request.success?.map(packRequest),
    });
  const packRequest = (op: RequestOpInput): RequestOpInput =>
    op.requestTxn == null ? op : { requestTxn: bytesAs(requestSerialize(op.requestTxn)) };
  const responseSerialize = (response: TxnResponseInput): Buffer =>
    flat.responseSerialize({ ...response, responses: response.responses?.map(packResponse) });
  const packResponse = (op: ResponseOpInput): ResponseOpInput =>
    op.responseTxn == null ? op : { responseTxn: bytesAs(responseSerialize(op.responseTxn)) };
  return {
    ...flat,
    requestDeserialize: (bytes) => requestOf(flat, bytes, 1),
    requestSerialize,
    responseDeserialize: (bytes) => responseOf(flat, bytes, 1),
    responseSerialize,
  };
}

/** The generated types do not know that the field is bytes. */
function bytesAs<T>(bytes: Buffer): T {
  return bytes as unknown as T;
}

function requestOf(flat: TxnRpc, bytes: Buffer, level: number): TxnRequest {
  const request = flat.requestDeserialize(bytes);
  const unpack = (op: RequestOp): void => {
    if (op.requestTxn === undefined) return;
    const inner = op.requestTxn as unknown as Buffer;
    op.requestTxn = requestOf(flat, level < DEEPEST ? inner : NOTHING, level + 1);
  };
  request.success.forEach(unpack);
  request.failure.forEach(unpack);
  return request;
}

function responseOf(flat: TxnRpc, bytes: Buffer, level: number): TxnResponse {
  const response = flat.responseDeserialize(bytes);
  for (const op of response.responses) {
    if (op.responseTxn === undefined) continue;
    const inner = op.responseTxn as unknown as Buffer;
    op.responseTxn = responseOf(flat, level < DEEPEST ? inner : NOTHING, level + 1);
  }
  return response;
}

const NOTHING = Buffer.alloc(0);
