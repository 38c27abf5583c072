import type { KeyVersion } from './key-history.js';
import { keyRange } from './key-range.js';
import type { Store } from './store.js';

const EVERYTHING = keyRange(Buffer.of(0), Buffer.of(0));

/** CRC-32C (Castagnoli), a byte at a time. */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

function update(crc: number, bytes: Uint8Array): number {
  let next = crc;
  for (const byte of bytes) next = (next >>> 8) ^ (table[(next ^ byte) & 0xff] ?? 0);
  return next;
}

/**
 * The hash etcd's HashKV gives the same contents: over each version up to `revision`, in order of revision, its revision and
 * its stored form. As in etcd, of the versions that the last compaction has left only those count that are still the key's
 * at `revision`; where no key is left at `revision`, all of them.
 */
export function storeHash(store: Store, revision: bigint): number {
  const compacted = store.compactedRevision;
  const kept = new Set(store.range(EVERYTHING, { revision }).kvs);
  const versions = [...store.versions()].filter(
    (version) =>
      version.modRevision <= revision &&
      (version.modRevision > compacted ||
        kept.has(version) ||
        // A deletion at the compacted revision is kept for watches only.
        (kept.size === 0 && !version.deleted)),
  );
  versions.sort((a, b) => Number(a.modRevision - b.modRevision) || a.sub - b.sub);
  let crc = update(0xffffffff, Buffer.from('key'));
  for (const version of versions) crc = update(update(crc, revisionBytes(version)), storedBytes(version));
  return (crc ^ 0xffffffff) >>> 0;
}

/** etcd's key of a version: main and sub revision around an underscore, and a "t" behind a deletion's. */
function revisionBytes({ modRevision, sub, deleted }: KeyVersion): Buffer {
  const bytes = Buffer.alloc(deleted ? 18 : 17);
  bytes.writeBigInt64BE(modRevision, 0);
  bytes.write('_', 8);
  bytes.writeBigInt64BE(BigInt(sub), 9);
  if (deleted) bytes.write('t', 17);
  return bytes;
}

/** mvccpb.KeyValue as etcd writes it: in order of fields, zeros left out; of a deletion only the key. */
function storedBytes(version: KeyVersion): Buffer {
  const parts: Buffer[] = [lengthPrefixed(1, version.key)];
  if (version.deleted) return Buffer.concat(parts);
  for (const [field, value] of [
    [2, version.createRevision],
    [3, version.modRevision],
    [4, version.version],
  ] as const) {
    parts.push(Buffer.of(field << 3), varint(value));
  }
  if (version.value.length > 0) parts.push(lengthPrefixed(5, version.value));
  if (version.lease !== 0n) parts.push(Buffer.of(6 << 3), varint(version.lease));
  return Buffer.concat(parts);
}

function lengthPrefixed(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.of((field << 3) | 2), varint(BigInt(bytes.length)), bytes]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}
