import { services } from '../../proto/services.js';
import type { CallSet } from '../rpc/call-set.js';
import type { Headers } from '../rpc/headers.js';
import type { LeaseTable } from '../lease/lease-table.js';
import { readRange } from './range-read.js';
import { streamRange } from './range-stream.js';
import { checkDelete, checkPut, checkRange, checkTxn } from './request-check.js';
import { etcdError } from '../rpc/rpc-error.js';
import type { Rpcs } from '../rpc/rpc-server.js';
import type { Store } from '../store/store.js';
import { isReadOnly, runTxn } from './txn.js';
import { applyDelete, applyPut, checkPutKey, checkPutLease } from './write-ops.js';

/** etcd's limit on what goes through its log, and what the log's envelope adds to a request. */
const MAX_REQUEST_BYTES = 1.5 * 1024 * 1024;
const ENVELOPE_BYTES = 18;

/** What the service works on. */
export interface KvParts {
  readonly calls: CallSet;
  readonly headers: Headers;
  readonly leases: LeaseTable;
  readonly store: Store;
}

/** Reads, writes, transactions and compaction. */
export function addKvService(rpcs: Rpcs, { calls, headers, leases, store }: KvParts): void {
  const { KV } = services;
  rpcs.unary(KV.Range, (request) => {
    checkRange(request);
    return headers.fill(readRange(store, store, request));
  });
  rpcs.parts(KV.RangeStream, (call) => {
    calls.add(call);
    void streamRange(call, store, headers);
  });
  rpcs.unary(KV.Put, (request, bytes) => {
    checkPut(request);
    checkSize(bytes);
    checkPutLease(leases, request);
    checkPutKey(store, request);
    return headers.fill(store.write((batch) => applyPut(store, batch, request)));
  });
  rpcs.unary(KV.DeleteRange, (request, bytes) => {
    checkDelete(request);
    checkSize(bytes);
    return headers.fill(store.write((batch) => applyDelete(batch, request)));
  });
  rpcs.unary(KV.Txn, (request, bytes) => {
    checkTxn(request);
    if (!isReadOnly(request)) checkSize(bytes);
    return headers.fill(runTxn(store, leases, request));
  });
  rpcs.unary(KV.Compact, (request) => {
    store.compact(request.revision);
    return { header: headers.at() };
  });
}

function checkSize(bytes: number): void {
  if (bytes + ENVELOPE_BYTES > MAX_REQUEST_BYTES) throw etcdError('REQUEST_TOO_LARGE');
}
