import { type ServiceError, status } from '@grpc/grpc-js';

import { type ErrorCode, ETCD_ERRORS, type StatusName } from '../errors/codes.js';
import { ConclaveError } from '../errors/conclave-error.js';
import { NOBODY_KNOWS, NOT_NOW } from '../errors/transient.js';
import type { Endpoint } from './endpoint.js';

/** A call that failed: the error for the caller, and what the retry loop must know. */
export interface Failure {
  readonly error: ConclaveError;
  /** Whether a write may have been applied all the same. */
  readonly ambiguous: boolean;
  /** Whether another try, on this endpoint or another, can be expected to do better. */
  readonly transient: boolean;
}

const BY_MESSAGE = new Map<string, (typeof ETCD_ERRORS)[number]>(
  ETCD_ERRORS.map((row) => [row.message, row]),
);

/** gRPC's words for a call that never left this process. */
const NEVER_LEFT =
  /No connection established|Name resolution failed|Channel closed before call started|refused by server/;
const TLS_TROUBLE =
  /certificate|self.signed|SSL routines|tlsv1 alert|ERR_SSL|ERR_TLS|Hostname\/IP does not match|unknown ca|bad_certificate/i;
/** What OpenSSL makes of an answer that is not TLS, and of a server that refuses to speak HTTP/2. */
const NOT_TLS = /SSL routines:.*:(wrong version number|http request|packet length too long)/;
const NOT_HTTP2 = /alert no application protocol/;
const TOO_LARGE = /message larger than max|larger than \d+/;

/** etcd identifies an error by its message; finds the row of ours that says the same. */
export function etcdError(message: string, statusName: StatusName, where: string): ConclaveError {
  const code = BY_MESSAGE.get(message)?.code ?? 'ETCD';
  const plain = message.replace(/^etcdserver: /, '');
  return new ConclaveError(code, `${where}: etcd says: ${plain}`, { etcd: { message, status: statusName } });
}

/** The member that was asked. */
type Asked = Pick<Endpoint, 'url'> & Partial<Pick<Endpoint, 'misfit'>>;

/** Reads a gRPC status. `where` names the operation and its key; `asked` the member. */
export function readFailure(failed: ServiceError, where: string, asked: Asked): Failure {
  const { url: endpoint, misfit } = asked;
  const name = status[failed.code] as StatusName;
  const { details } = failed;
  if (details.startsWith('etcdserver: ') || BY_MESSAGE.has(details)) {
    const error = etcdError(details, name, where);
    const unsure =
      NOBODY_KNOWS.has(error.code) || (error.code === 'ETCD' && failed.code === status.UNAVAILABLE);
    return { ambiguous: unsure, error, transient: unsure || NOT_NOW.has(error.code) };
  }
  const plain = (
    code: ErrorCode,
    text: string,
    fate: { ambiguous: boolean; transient: boolean },
  ): Failure => ({
    error: new ConclaveError(code, `${where}: ${text}`, {
      cause: failed,
      etcd: { message: details, status: name },
    }),
    ...fate,
  });
  const sure = { ambiguous: false, transient: false };
  switch (failed.code) {
    case status.UNAVAILABLE:
      if (misfit !== undefined && NEVER_LEFT.test(details)) return plain('NOT_ETCD', misfit, sure);
      if (NOT_TLS.test(details))
        return plain('NOT_ETCD', `${endpoint} does not speak TLS; if it is etcd, use http://`, sure);
      if (NOT_HTTP2.test(details))
        return plain('NOT_ETCD', `${endpoint} speaks TLS, but no HTTP/2: it is not an etcd v3 server`, sure);
      if (TLS_TROUBLE.test(details)) {
        return plain(
          'TLS_FAILED',
          `TLS with ${endpoint} failed: ${reason(details)}; check tls.ca, tls.cert and the name in the server's certificate`,
          sure,
        );
      }
      return plain('UNAVAILABLE', `${endpoint}: ${reason(details)}`, {
        ambiguous: !NEVER_LEFT.test(details),
        transient: true,
      });
    case status.UNIMPLEMENTED:
      return plain(
        'NOT_ETCD',
        `${endpoint} does not know this call (${details}); is it an etcd v3 server?`,
        sure,
      );
    case status.RESOURCE_EXHAUSTED:
      if (TOO_LARGE.test(details))
        return plain('REQUEST_TOO_LARGE', `${details}; etcd takes 1.5 MiB by default`, sure);
      return plain('ETCD', details, sure);
    case status.INTERNAL:
    case status.UNKNOWN:
    case status.CANCELLED:
    case status.DEADLINE_EXCEEDED:
      if (/content-type|HTTP status|Received RST_STREAM with code (1|2|13)\b.*HTTP/i.test(details)) {
        return plain('NOT_ETCD', `${endpoint} does not answer as an etcd v3 server: ${details}`, sure);
      }
      return plain('UNAVAILABLE', `${endpoint}: ${name} ${details}`, { ambiguous: true, transient: true });
    default:
      return plain('ETCD', `${name} ${details}`, sure);
  }
}

/** gRPC's sentence in one line, without its internal notes and OpenSSL's places in its source. */
function reason(details: string): string {
  return details
    .replace(/ ?Resolution note:.*$/s, '')
    .replace(/^.*No connection established\. Last error: (Error( \[\w+\])?: )?/s, 'cannot connect: ')
    .replace(/\w+:error:\w+:([^:]+):[^:]*:([^:]+):\S+/, '$1: $2')
    .replaceAll(/\s*\n\s*/g, ' ')
    .replace(/[\s.]+$/, '');
}
