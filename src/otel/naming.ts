/** What things are called: kinds, names and errors, in attributes. */
import type { Attributes } from '@opentelemetry/api';

import type { Told } from './listen.js';

/** Reduces a name; `kind` is `mutex`, `read`, `write`, `semaphore`, `multiMutex` or `election`. */
export type NameOf = (name: string, kind: string) => string | undefined;

/** The handles' classes, by what asks for them. */
const KINDS: Readonly<Record<string, string>> = {
  Leadership: 'election',
  Lock: 'mutex',
  MultiLock: 'multiMutex',
  Permit: 'semaphore',
  ReadLock: 'read',
  WriteLock: 'write',
};

/** What kind of thing is asked for, held or lost. */
export function kindOf({ kind }: Told): string {
  return KINDS[String(kind)] ?? String(kind);
}

/** Its kind and its reduced name, if it is to have one. */
export function about(told: Told, nameOf: NameOf | undefined): Attributes {
  const kind = kindOf(told);
  const name = typeof told['name'] === 'string' ? nameOf?.(told['name'], kind) : undefined;
  return { 'conclave.kind': kind, ...(name === undefined ? {} : { 'conclave.name': name }) };
}

/** An error's code, or what else it is; nothing when there is none. */
export function errorType({ error }: Told): Attributes {
  if (error === undefined) return {};
  if (!(error instanceof Error)) return { 'error.type': typeof error };
  const { code } = error as { readonly code?: unknown };
  return { 'error.type': typeof code === 'string' ? code : error.name };
}

/** As OpenTelemetry names a call: of `/etcdserverpb.KV/Txn`, the service and the method. */
export function rpcOf({ path }: Told): Attributes {
  const [, service = '', method = ''] = String(path).split('/');
  return { 'rpc.method': method, 'rpc.service': service, 'rpc.system': 'grpc' };
}

/** As OpenTelemetry names the processing of a message. */
export function messagingOf({ queue }: Told): Attributes {
  return {
    'messaging.destination.name': String(queue),
    'messaging.operation.name': 'process',
    'messaging.operation.type': 'process',
    'messaging.system': 'conclave',
  };
}
