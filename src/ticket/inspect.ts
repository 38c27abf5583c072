/** Looking at a line from outside: who holds, who waits in what order, since when, and from where. */
import type { Client } from '../etcd/client.js';
import type { CallOptions } from '../etcd/transport/call.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Policy } from './line-audience.js';
import { idOf, inOrder, type LineName } from './line-keys.js';
import { type LineRead, readLine } from './read-line.js';
import { type OwnerInfo, ownerOf } from './owner.js';
import { notesOf } from './take.js';
import { inJson } from '../util/shown.js';

/** A key in line. `host`, `pid`, `since` and `label` are there when its owner wrote them, as Conclave does. */
export interface LineEntry extends OwnerInfo {
  readonly key: string;
  readonly leaseId: bigint;
  /** Its place in line: the lower, the earlier. */
  readonly createRevision: bigint;
  /** Whether another client wrote it, so that no more than its lease is known. */
  readonly foreign: boolean;
}

/** Who holds and who waits, as of one revision. */
export interface LineReport<Entry extends LineEntry = LineEntry> {
  /** The store's revision at which this was so. */
  readonly revision: bigint;
  /** In the order of the line. */
  readonly holders: readonly Entry[];
  /** In the order in which they will hold. */
  readonly waiters: readonly Entry[];
}

/** What a line is to be reported as. */
export interface Inspection<Entry extends LineEntry> extends LineName {
  readonly policy: Policy;
  /** Adds to an entry what its kind of key says besides. */
  readonly describe: (entry: LineEntry, kv: KeyValue) => Entry;
  /** The key that says whose a key in line is. @default the key itself */
  readonly noteOf?: (kv: KeyValue) => KeyValue | undefined;
}

/** Reads a line whose owners' notes are in keys of their own, and reports it. One linearizable read; changes nothing. */
export async function inspectNoted<Entry extends LineEntry>(
  client: Client,
  inspection: Inspection<Entry>,
  options: CallOptions = {},
): Promise<LineReport<Entry>> {
  const { name } = inspection;
  const notes = notesOf(name);
  const read = await readLine(client.kv, { name, besideKey: notes }, options);
  const noted = new Map(read.kvs.map((kv) => [idOf(kv), kv]));
  const lineId = idOf(`${name}/`);
  const noteOf = (kv: KeyValue): KeyValue | undefined => {
    const note = noted.get(idOf(notes) + idOf(kv).slice(lineId.length));
    return note?.leaseId === kv.leaseId ? note : undefined;
  };
  return reportLine(read, { ...inspection, noteOf });
}

/** Reads a line and reports it. One linearizable read; changes nothing. */
export async function inspectLine<Entry extends LineEntry>(
  client: Client,
  inspection: Inspection<Entry>,
  options: CallOptions = {},
): Promise<LineReport<Entry>> {
  return reportLine(await readLine(client.kv, inspection, options), inspection);
}

/** Reports a line that has been read, with the key beside it. */
export function reportLine<Entry extends LineEntry>(
  { kvs, revision }: LineRead,
  { name, besideKey, policy, describe, noteOf = (kv) => kv }: Inspection<Entry>,
): LineReport<Entry> {
  const line = inOrder(kvs, name);
  const beside = kvs.find((kv) => kv.key === besideKey);
  const admitted = new Set(policy(line, beside));
  const entries = (held: boolean): Entry[] =>
    line.filter((kv) => admitted.has(kv) === held).map((kv) => inJson(describe(entryOf(kv, noteOf(kv)), kv)));
  return inJson({ holders: entries(true), revision, waiters: entries(false) });
}

/** What is known of a key in line; `about` says whose it is. */
function entryOf(kv: KeyValue, about: KeyValue | undefined): LineEntry {
  const owner = about === undefined ? {} : ownerOf(about);
  return {
    createRevision: kv.createRevision,
    foreign: owner.host === undefined,
    key: kv.key,
    leaseId: kv.leaseId ?? 0n,
    ...owner,
  };
}
