/** A path of the tree as one transaction read it, and what a change of it has to compare. */
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { OpResult } from '../etcd/kv/kv-results.js';
import { type Op, op } from '../etcd/kv/op.js';
import { KeysError } from './keys-error.js';
import { type Layout, pathsTo } from './layout.js';
import { decodeNode, type StoredNode } from './node.js';

/** How a path is read. */
export interface LookOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
  readonly serializable?: boolean | undefined;
  /** More to read at the same revision. */
  readonly also?: Op | undefined;
}

/** Reads every directory on the way to `path`, and `path`, at one revision. */
export async function look(
  { client, layout }: { readonly client: Client; readonly layout: Layout },
  path: string,
  { also, serializable, ...limits }: LookOptions,
): Promise<Sight> {
  const paths = pathsTo(path);
  const reads = paths.map((each) => op.get(layout.node(each), { serializable }));
  // The root has no key: what is read of it is only how far the store has come.
  const extra = also ?? op.get(layout.lastDeleted, { limit: 1, serializable });
  const { responses, revision } = await client.kv.txn({ then: [...reads, extra] }, limits);
  const found = responses.map(kvsOf);
  const nodes: StoredNode[] = [];
  for (const [at, each] of paths.entries()) {
    const kv = found[at]?.[0];
    // What is below a directory that is gone is not there either, even if its key still is.
    if (kv === undefined) break;
    nodes.push(decodeNode(each, kv));
  }
  return new Sight({ also: found.at(-1) ?? [], index: revision, layout, nodes, path, paths });
}

function kvsOf(result: OpResult): readonly KeyValue[] {
  return result.type === 'get' ? result.kvs : [];
}

/** What `look` has seen. */
export class Sight {
  readonly path: string;
  readonly index: bigint;
  /** What was read beside the path. */
  readonly also: readonly KeyValue[];
  readonly #layout: Layout;
  readonly #paths: readonly string[];
  /** From the top, as far as they exist. */
  readonly #nodes: readonly StoredNode[];

  constructor(seen: {
    readonly path: string;
    readonly index: bigint;
    readonly also: readonly KeyValue[];
    readonly layout: Layout;
    readonly paths: readonly string[];
    readonly nodes: readonly StoredNode[];
  }) {
    this.path = seen.path;
    this.index = seen.index;
    this.also = seen.also;
    this.#layout = seen.layout;
    this.#paths = seen.paths;
    this.#nodes = seen.nodes;
  }

  /** The node itself; undefined if it does not exist, and for the root. */
  get node(): StoredNode | undefined {
    return this.#nodes[this.#paths.length - 1];
  }

  /** The first path on the way that does not exist. */
  get firstMissing(): string | undefined {
    return this.#paths[this.#nodes.length];
  }

  /** The directories on the way that do not exist, from the top; with `itself` also the path. */
  missing(itself: boolean): readonly string[] {
    return this.#paths.slice(this.#nodes.length, itself ? undefined : -1);
  }

  /** Throws 104 if what stands on the way is a file; with `itself`, also if the path is one. */
  checkWay(itself = false): void {
    const way = this.#nodes.slice(0, itself ? undefined : this.#paths.length - 1);
    const file = way.find(({ record }) => record.dir !== true);
    if (file !== undefined) throw this.error(104, file.path);
  }

  /** The node, which must exist and is not the root. Throws 100 or 104. */
  existing(): StoredNode {
    this.checkWay();
    const { node } = this;
    if (node === undefined) throw this.error(100, this.firstMissing ?? this.path);
    return node;
  }

  error(code: ConstructorParameters<typeof KeysError>[0], cause = this.path): KeysError {
    return new KeysError(code, cause, this.index);
  }

  /** That all is still as it was seen; and that nothing is left below what is missing. */
  guards(): Compare[] {
    const { firstMissing } = this;
    const same = this.#nodes.map(({ kv }) => compare.modRevision(kv.keyBytes, '=', kv.modRevision));
    if (firstMissing === undefined) return same;
    return [...same, compare.missing(this.#layout.node(firstMissing)), isEmpty(this.#layout, firstMissing)];
  }
}

/** That nothing is below a path: etcd holds a compare on a range against each key that there is. */
export function isEmpty(layout: Layout, path: string): Compare {
  return compare.createRevision(layout.descendants(path), '=', 0n);
}

/** What a deletion leaves for the watchers. */
export function journalOp(layout: Layout, entry: { action: string; mark: string; path: string }): Op {
  return op.put(layout.lastDeleted, JSON.stringify(entry));
}

/** Removes what is left below a directory that has expired. Writes nothing if it exists, or nothing is left. Safe to repeat. */
export async function purge(
  { client, layout }: { readonly client: Client; readonly layout: Layout },
  path: string,
  limits: Pick<LookOptions, 'signal' | 'timeoutMs'> = {},
): Promise<void> {
  const remove = [
    op.delete(layout.descendants(path)),
    journalOp(layout, { action: 'purge', mark: '', path }),
  ];
  const ifGone = op.txn({ if: [compare.missing(layout.node(path))], then: remove });
  await client.kv.txn({ else: [ifGone], if: [isEmpty(layout, path)] }, { ...limits, idempotent: true });
}
