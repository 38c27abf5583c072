/** What a key-value call is, as far as that decides how it is named, sent again, and left with its member. */
import type { RequestOpInput } from '../../proto/messages.gen.js';
import { toText } from '../../util/bytes.js';
import { keyOf, type KeyRange, named } from './key-range.js';

/** How errors name a call. */
export interface Name {
  /** The operation and its key. */
  readonly what: string;
  /** The key alone. */
  readonly key: string;
}

/** Reading as many keys, or fewer, is nothing that takes long. */
const FEW_KEYS = 100n;

/** Names a call on a range. */
export function nameOf(verb: string, range: KeyRange): Name {
  return { key: keyOf(range), what: `${verb} ${named(range)}` };
}

/** Names a transaction by the first key that its steps touch. */
export function txnName(steps: readonly RequestOpInput[]): Partial<Name> & Pick<Name, 'what'> {
  for (const step of steps) {
    const key = step.requestPut?.key ?? step.requestDeleteRange?.key ?? step.requestRange?.key;
    if (key === undefined) continue;
    const text = toText(key);
    return { key: text, what: `txn on ${JSON.stringify(text)}` };
  }
  return { what: 'txn' };
}

/** Whether a step changes nothing, whichever branch is taken. */
export function isRead(step: RequestOpInput): boolean {
  if (step.requestTxn != null) return inner(step.requestTxn).every(isRead);
  return step.requestRange != null;
}

/** Whether a step reads what may be many keys, or has them sorted. */
export function isHeavy(step: RequestOpInput): boolean {
  if (step.requestTxn != null) return inner(step.requestTxn).some(isHeavy);
  if (step.requestRange?.rangeEnd === undefined) return false;
  const { limit = 0n, sortTarget = 'KEY' } = step.requestRange;
  return limit === 0n || limit > FEW_KEYS || sortTarget !== 'KEY';
}

/** Roughly what a step takes, in bytes, beyond what each takes. */
export function bytesOf(step: RequestOpInput): number {
  if (step.requestTxn != null) return inner(step.requestTxn).reduce((sum, each) => sum + bytesOf(each), 0);
  return step.requestPut?.value?.length ?? 0;
}

/** Whether all that the steps write are keys bound to one and the same lease, with which they go. */
export function areBoundToOneLease(steps: readonly RequestOpInput[]): boolean {
  const leases = new Set(steps.flatMap(leasesOf));
  return leases.size === 1 && !leases.has(0n);
}

/** The leases of what a step writes; 0 for what is bound to none, and for a deletion. */
function leasesOf(step: RequestOpInput): readonly bigint[] {
  if (step.requestTxn != null) return inner(step.requestTxn).flatMap(leasesOf);
  if (step.requestPut != null) return [step.requestPut.lease ?? 0n];
  return step.requestDeleteRange == null ? [] : [0n];
}

function inner({
  failure,
  success,
}: {
  readonly success?: readonly RequestOpInput[] | null | undefined;
  readonly failure?: readonly RequestOpInput[] | null | undefined;
}): readonly RequestOpInput[] {
  return [...(success ?? []), ...(failure ?? [])];
}
