/**
 * A node of v2's tree, as it is stored and as it is shown.
 *
 * A key's value is one line of JSON (which action wrote it, whether it is a directory, since when it exists, when it
 * expires), and below it the node's own value. etcd's create revision will not do for `createdIndex`: v2's `set` makes a
 * new node where one was.
 */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { isBelow, isHidden, type Layout } from './layout.js';

/** What changed a node, in v2's words. */
export type KeysAction =
  'get' | 'set' | 'create' | 'update' | 'compareAndSwap' | 'delete' | 'compareAndDelete' | 'expire';

/** A file or directory, as v2 showed it. */
export interface KeysNode {
  /** Its path, as in `/a/b`. */
  readonly key: string;
  /** A file's value; undefined for a directory and for what was deleted. */
  readonly value: string | undefined;
  readonly dir: boolean;
  /** What is in a directory, in an answer to `get`; undefined where it was not read. */
  readonly nodes: readonly KeysNode[] | undefined;
  /** The index of the change that made it; 0n for the root. */
  readonly createdIndex: bigint;
  /** The index of its last change; a directory's stays what it was created with, as in v2. 0n for the root. */
  readonly modifiedIndex: bigint;
  /** Seconds left to live, rounded up; undefined if it does not expire. */
  readonly ttl: number | undefined;
  /** When it expires, by the wall clock of who set it. */
  readonly expiration: Date | undefined;
}

/** What stands in a value's first line. */
export interface NodeRecord {
  /** `mkdir`: made on the way to another node, of which no watcher is told. */
  readonly action: KeysAction | 'mkdir';
  /** By which a request knows what it wrote itself. */
  readonly mark: string;
  readonly dir?: true;
  /** The createdIndex, where it is not the index of this very write. */
  readonly created?: string;
  /** Milliseconds since 1970. */
  readonly expires?: number;
  /** Written by a refresh, of which no watcher is told. */
  readonly refresh?: true;
}

/** A node as it was read. */
export interface StoredNode {
  readonly path: string;
  readonly kv: KeyValue;
  readonly record: NodeRecord;
  readonly value: string;
  readonly createdIndex: bigint;
}

/** The value of a node's key. */
export function encodeNode(record: NodeRecord, value: string): string {
  return `${JSON.stringify(record)}\n${value}`;
}

/** Reads a node's key. One that somebody else wrote there is a file with all of that as its value. */
export function decodeNode(path: string, kv: KeyValue): StoredNode {
  const text = kv.string();
  const end = text.indexOf('\n');
  const record = end < 0 ? undefined : recordOf(text.slice(0, end));
  if (record === undefined) {
    const foreign: NodeRecord = { action: 'set', mark: '' };
    return { createdIndex: kv.createRevision, kv, path, record: foreign, value: text };
  }
  const createdIndex = record.created === undefined ? kv.modRevision : BigInt(record.created);
  return { createdIndex, kv, path, record, value: text.slice(end + 1) };
}

function recordOf(line: string): NodeRecord | undefined {
  try {
    const record = JSON.parse(line) as Partial<NodeRecord> | null;
    if (typeof record?.action !== 'string' || typeof record.mark !== 'string') return undefined;
    return /^\d+$/.test(record.created ?? '0') ? (record as NodeRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** A node as v2 shows it. `nodes`: what is in it, if that was read. */
export function shownNode(node: StoredNode, wallMs: number, nodes?: readonly KeysNode[]): KeysNode {
  const { createdIndex, kv, path, record, value } = node;
  const dir = record.dir === true;
  return {
    createdIndex,
    dir,
    key: path,
    modifiedIndex: dir ? createdIndex : kv.modRevision,
    nodes: dir ? nodes : undefined,
    value: dir ? undefined : value,
    ...lifeOf(record.expires, wallMs),
  };
}

/** How long a node has still to live. */
export function lifeOf(expires: number | undefined, wallMs: number): Pick<KeysNode, 'ttl' | 'expiration'> {
  if (expires === undefined) return { expiration: undefined, ttl: undefined };
  return { expiration: new Date(expires), ttl: Math.max(0, Math.ceil((expires - wallMs) / 1000)) };
}

/** The root, which is always there. */
export function rootNode(nodes: readonly KeysNode[] | undefined): KeysNode {
  const none = { expiration: undefined, ttl: undefined, value: undefined };
  return { ...none, createdIndex: 0n, dir: true, key: '/', modifiedIndex: 0n, nodes };
}

/** How a directory's content is read from its keys. */
export interface Listing {
  readonly layout: Layout;
  readonly recursive: boolean;
  readonly wallMs: number;
}

/**
 * The nodes of `directory` out of the keys below it, which come in order. What lies below a directory that has expired
 * is not there any more, and names that begin with `_` are hidden.
 */
export function listNodes(directory: string, kvs: readonly KeyValue[], listing: Listing): KeysNode[] {
  const inside = new Map<string, StoredNode[]>();
  for (const kv of kvs) {
    const path = listing.layout.path(kv.key);
    if (path === undefined || !isBelow(path, directory) || isHidden(path, directory)) continue;
    const parent = path.slice(0, path.lastIndexOf('/')) || '/';
    const siblings = inside.get(parent) ?? [];
    siblings.push(decodeNode(path, kv));
    inside.set(parent, siblings);
  }
  const list = (parent: string): KeysNode[] =>
    (inside.get(parent) ?? []).map((node) => {
      const nodes = listing.recursive && node.record.dir === true ? list(node.path) : undefined;
      return shownNode(node, listing.wallMs, nodes);
    });
  return list(directory);
}
