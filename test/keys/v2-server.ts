// etcd v2's own API over HTTP, as a real etcd answers it, and the same operations on `conclave/keys`.
import path from 'node:path';

import { type KeysAPI, KeysError, type KeysNode, type KeysSetOptions } from 'conclave/keys';

/** One operation, in the words of v2's HTTP API. */
export interface Operation {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  readonly key: string;
  readonly value?: string;
  readonly ttl?: number;
  readonly dir?: true;
  readonly recursive?: true;
  readonly refresh?: true;
  readonly prevExist?: boolean;
  readonly prevValue?: string;
  /** Which index the comparison names is known only when it runs: that of the node, or another. */
  readonly prevIndex?: 'right' | 'wrong';
}

/** A node with numbers that both sides have. */
export interface Node {
  readonly key: string;
  readonly value: string | undefined;
  readonly dir: boolean;
  readonly created: number;
  readonly modified: number;
  readonly ttl: number | undefined;
  readonly nodes: readonly Node[];
}

/** What one side answers. */
export type Answer =
  | {
      readonly action: string;
      readonly node: Node;
      readonly prevNode: Node | undefined;
      readonly index: number;
    }
  | { readonly errorCode: number; readonly cause: string; readonly index: number };

interface RawNode {
  readonly key?: string;
  readonly value?: string;
  readonly dir?: boolean;
  readonly createdIndex?: number;
  readonly modifiedIndex?: number;
  readonly ttl?: number;
  readonly nodes?: readonly RawNode[];
}

interface RawAnswer {
  readonly action: string;
  readonly node: RawNode;
  readonly prevNode?: RawNode;
  readonly errorCode?: number;
  readonly cause?: string;
  readonly index: number;
}

/** The names of a createInOrder are its index, which differs: only their place in the order counts. */
export type Names = (key: string) => string;

function fromRaw(node: RawNode, names: Names): Node {
  return {
    created: node.createdIndex ?? 0,
    dir: node.dir === true,
    key: names(node.key ?? '/'),
    modified: node.modifiedIndex ?? 0,
    nodes: (node.nodes ?? []).map((each) => fromRaw(each, names)),
    ttl: node.ttl,
    value: node.value,
  };
}

function fromOurs(node: KeysNode, names: Names): Node {
  return {
    created: Number(node.createdIndex),
    dir: node.dir,
    key: names(node.key),
    modified: Number(node.modifiedIndex),
    nodes: (node.nodes ?? []).map((each) => fromOurs(each, names)),
    ttl: node.ttl,
    value: node.value,
  };
}

/** Runs an operation on a real etcd's v2 store. */
export async function onServer(
  endpoint: string,
  operation: Operation,
  { prevIndex, names }: { readonly prevIndex: number | undefined; readonly names: Names },
): Promise<Answer> {
  const { key, method, value, prevIndex: _, ...rest } = operation;
  const query = new URLSearchParams({ sorted: 'true' });
  for (const [name, given] of Object.entries(rest)) query.set(name, String(given));
  if (prevIndex !== undefined) query.set('prevIndex', String(prevIndex));
  // Where a path is not clean, etcd's HTTP server only sends elsewhere: to the clean one.
  const clean = path.posix.normalize(key);
  const response = await fetch(`${endpoint}/v2/keys${encodeURI(clean)}?${query.toString()}`, {
    ...(value === undefined ? {} : { body: new URLSearchParams({ value }) }),
    method,
  });
  const raw = (await response.json()) as RawAnswer;
  if (raw.errorCode !== undefined)
    return { cause: names(raw.cause ?? '/'), errorCode: raw.errorCode, index: raw.index };
  return {
    action: raw.action,
    index: Number(response.headers.get('x-etcd-index')),
    node: fromRaw(raw.node, names),
    prevNode: raw.prevNode === undefined ? undefined : fromRaw(raw.prevNode, names),
  };
}

/** Runs it on ours. */
export async function onOurs(
  keys: KeysAPI,
  operation: Operation,
  { prevIndex, names }: { readonly prevIndex: bigint | undefined; readonly names: Names },
): Promise<Answer> {
  const { dir, key, method, prevExist, prevValue, recursive, refresh, ttl, value } = operation;
  const run = async (): ReturnType<KeysAPI['get']> => {
    if (method === 'GET') return await keys.get(key, { recursive, sorted: true });
    if (method === 'POST') return await keys.createInOrder(key, value, { ttl });
    if (method === 'DELETE') return await keys.delete(key, { dir, prevIndex, prevValue, recursive });
    const options: KeysSetOptions = { dir, prevExist, prevIndex, prevValue, refresh, ttl };
    return await keys.set(key, value, options);
  };
  try {
    const { action, index, node, prevNode } = await run();
    return {
      action,
      index: Number(index),
      node: fromOurs(node, names),
      prevNode: prevNode === undefined ? undefined : fromOurs(prevNode, names),
    };
  } catch (error) {
    if (!(error instanceof KeysError)) throw error;
    return { cause: names(error.cause), errorCode: error.errorCode, index: Number(error.index) };
  }
}
