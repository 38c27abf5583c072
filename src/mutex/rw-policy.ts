/** Who of a read-write lock's line is admitted. */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { readOwner } from '../ticket/owner.js';
import type { Policy } from '../ticket/line-audience.js';
import { tagOf } from './tag.js';

/** The key beside the line: a reader of the line asks to become its writer. */
export function upgradeKeyOf(name: string): string {
  return `${name}.~upgrade`;
}

/** The key of the reader that asks to become the writer. */
function upgrading(beside: KeyValue | undefined): string | undefined {
  if (beside?.leaseId === undefined) return undefined;
  const { ticket } = readOwner(beside);
  return typeof ticket === 'string' ? ticket : undefined;
}

/**
 * The leading readers, or the first writer. While a reader asks to become the writer, those who came after its request
 * are not admitted. A request whose reader is gone means nothing.
 */
export const readersOrWriter: Policy = function* readersOrWriter(line, beside) {
  const upgrader = upgrading(beside);
  let asked = false;
  let isFirst = true;
  for (const kv of line) {
    if (tagOf(kv).mode === 'write') {
      if (isFirst) yield kv;
      return;
    }
    if (asked && beside !== undefined && kv.createRevision > beside.createRevision) return;
    yield kv;
    isFirst = false;
    asked ||= kv.key === upgrader;
  }
};

/** The reader that asks to become the writer, once it is the only one. */
export const onlyReader: Policy = function* onlyReader(line, beside) {
  const upgrader = upgrading(beside);
  if (beside === undefined || upgrader === undefined) return;
  let first: KeyValue | undefined;
  for (const kv of line) {
    if (first !== undefined) {
      const admitted = tagOf(kv).mode === 'read' && kv.createRevision < beside.createRevision;
      if (admitted) return;
      break;
    }
    if (kv.key !== upgrader) return;
    first = kv;
  }
  if (first !== undefined) yield first;
};
