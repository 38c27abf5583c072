import { warn } from '../util/warn.js';

/** The first release of each line in which a keepalive of a revoked lease fails (etcd #20615), by "major.minor". */
const FIXED: Readonly<Record<string, number>> = { '3.4': 38, '3.5': 23, '3.6': 5 };

const warned = new Set<string>();

/** Whether etcd of this version can answer a keepalive with success although the lease has been revoked. */
export function answersForRevokedLeases(version: string): boolean {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version);
  if (parts === null) return false;
  const [, major = '0', minor = '0', patch = '0'] = parts;
  const fixed = FIXED[`${major}.${minor}`];
  if (fixed !== undefined) return Number(patch) < fixed;
  return Number(major) === 3 && Number(minor) < 4;
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
