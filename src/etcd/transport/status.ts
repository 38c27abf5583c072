/** Reads what gRPC says of a call or stream that failed: the error for the caller, and what to do about it. */
import { type ServiceError, status } from '@grpc/grpc-js';

import type { StatusName } from '../../errors/codes.js';
import { ConclaveError } from '../../errors/conclave-error.js';
import { etcdCode } from '../../errors/etcd-words.js';
import { type Fate, FATES } from '../../errors/fates.js';
import type { Endpoint } from './endpoint.js';
import { verdictOf } from './verdicts.js';

/** A call that failed: the error for the caller, and what it says of the call. */
export interface Failure extends Fate {
  readonly error: ConclaveError;
}

/** The member that was asked. */
type Asked = Pick<Endpoint, 'url'> & Partial<Pick<Endpoint, 'lastReplyAt' | 'misfit'>>;

/** What is known of a call beside its status. */
export interface Circumstances {
  /** Whether the request may have reached the server; by default, gRPC's words tell. */
  readonly left?: boolean | undefined;
  /** The key it was about. */
  readonly key?: string | undefined;
}

/** The error for words of etcd's. `where` names the operation and its key. */
export function etcdError(
  message: string,
  statusName: StatusName,
  where: string,
  key?: string,
): ConclaveError {
  const plain = message.replace(/^etcdserver: /, '');
  const etcd = { message, status: statusName };
  return new ConclaveError(etcdCode(message) ?? 'ETCD', `${where}: etcd says: ${plain}`, { etcd, key });
}

/** Reads a gRPC status. `where` names the operation and its key; `asked` the member. */
export function readFailure(
  failed: ServiceError,
  where: string,
  asked: Asked,
  { key, left }: Circumstances = {},
): Failure {
  const { details } = failed;
  const { lastReplyAt = 0, misfit, url } = asked;
  const name = status[failed.code] as StatusName | undefined;
  const ending = { details, left, misfit, status: name ?? 'UNKNOWN', url, wasEtcd: lastReplyAt > 0 };
  const { code, fate, text } = verdictOf(ending);
  const etcd = { message: details, status: ending.status };
  return {
    ...FATES[fate],
    error: new ConclaveError(code, `${where}: ${text}`, { cause: failed, etcd, key }),
  };
}
