import { faultsOf } from '../etcd/admin/known-faults.js';
import { warn } from '../util/warn.js';

const warned = new Set<string>();

/** Whether etcd of this version can answer a keepalive with success although the lease has been revoked (etcd #20615). */
export function answersForRevokedLeases(version: string): boolean {
  return faultsOf(version).some(({ id }) => id === 'keepalive-of-revoked-lease');
}

/** Warns the operator, once for each version in a process. */
export function warnAboutServer(version: string): void {
  if (warned.has(version)) return;
  warned.add(version);
  const text =
    `etcd ${version} can answer a keepalive with success for a lease it has revoked (etcd #20615). Sessions check for ` +
    'themselves after each keepalive; upgrade to 3.4.38, 3.5.23, 3.6.5 or later.';
  warn('CONCLAVE_ETCD_KEEPALIVE', text);
}
