import type { Client } from '../../etcd/client.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import type { DemoKeys } from './keys.js';
import type { RecordValue } from './record-book.js';
import type { Effect, LandedWrite, StoredRecord } from './verdict.js';

/** What the store holds at the end of a run. */
export interface StoreEvidence {
  readonly stored: readonly StoredRecord[];
  /** The late writes that are there. */
  readonly lateStored: readonly LandedWrite[];
  /** What the jobs did. */
  readonly effects: readonly Effect[];
}

/** Reads a record back. Throws when it is not one. */
export function readRecord(kv: KeyValue, keys: DemoKeys): StoredRecord {
  const { worker, token } = kv.json<RecordValue>();
  return {
    number: Number(kv.key.slice(keys.records.length)),
    revision: kv.modRevision,
    token: BigInt(token),
    worker,
  };
}

/** Reads the whole run from the store, at one revision. */
export async function readStore(client: Client, keys: DemoKeys): Promise<StoreEvidence> {
  const stored: StoredRecord[] = [];
  const lateStored: LandedWrite[] = [];
  const effects: Effect[] = [];
  for await (const kv of client.kv.scan({ prefix: keys.prefix })) {
    if (kv.key.startsWith(keys.records)) stored.push(readRecord(kv, keys));
    else if (kv.key.startsWith(keys.late)) lateStored.push(readLate(kv, keys));
    else if (kv.key.startsWith(keys.done)) effects.push(readEffect(kv.key.slice(keys.done.length)));
  }
  return { effects, lateStored, stored };
}

function readLate(kv: KeyValue, keys: DemoKeys): LandedWrite {
  return { revision: kv.modRevision, token: BigInt(kv.key.slice(keys.late.length)) };
}

function readEffect(rest: string): Effect {
  const [jobId = '', token = '0'] = rest.split('/');
  return { jobId, token: BigInt(token) };
}
