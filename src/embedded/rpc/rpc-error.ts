import { status } from '@grpc/grpc-js';

import { ETCD_ERRORS } from '../../errors/codes.js';

/** The errors etcd itself answers with, by our code. */
export type EtcdErrorCode = (typeof ETCD_ERRORS)[number]['code'];

const rows = new Map(ETCD_ERRORS.map((row) => [row.code, row]));

/** An error that goes to the client as it is: a gRPC status and its message. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

/** etcd's own error, word for word. */
export function etcdError(code: EtcdErrorCode): RpcError {
  const row = rows.get(code);
  if (row === undefined) throw new TypeError(`no such etcd error: ${code}`);
  return new RpcError(status[row.status], row.message);
}

/** What a server that serves one machine has no use for. */
export function notImplemented(what: string): RpcError {
  return new RpcError(status.UNIMPLEMENTED, `embedded etcd: ${what} is not implemented`);
}
