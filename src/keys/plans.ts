/** What etcd v2 made of each call: its checks in its order (etcd 3.4, server/v2store/store.go), and what is written. */
import { compare } from '../etcd/kv/compare.js';
import { type Op, op } from '../etcd/kv/op.js';
import type { Life, Plan, Tree } from './change.js';
import type { Layout } from './layout.js';
import { encodeNode, type KeysAction, lifeOf, type NodeRecord, shownNode, type StoredNode } from './node.js';
import type { KeysDeleteOptions, KeysSetOptions } from './options.js';
import { type isEmpty, type Sight, journalOp } from './sight.js';

/** What is to be put, once v2's checks have passed. */
interface Put {
  readonly action: KeysAction;
  readonly path: string;
  readonly value: string;
  readonly dir: boolean;
  readonly refresh: boolean;
  /** What it replaces. */
  readonly previous: StoredNode | undefined;
  /** The createdIndex that it keeps; undefined: it is a new node. */
  readonly created: bigint | undefined;
}

/** `set`, with all that makes it a create, an update or a compareAndSwap. */
export function planSet(
  tree: Tree,
  { options, value }: { readonly options: KeysSetOptions; readonly value: string },
): (sight: Sight, mark: string) => Plan {
  return (sight, mark) => planPut(tree, sight, { mark, put: decideSet(sight, value, options) });
}

function decideSet(sight: Sight, value: string, options: KeysSetOptions): Put {
  const { dir = false, prevExist, prevIndex, prevValue, refresh = false } = options;
  const compares = prevIndex !== undefined || prevValue !== undefined;
  const { path } = sight;
  if (path === '/' && !(refresh && prevExist === undefined && !compares)) throw sight.error(107);
  if (prevExist === false) {
    sight.checkWay();
    if (sight.node !== undefined) throw sight.error(105);
    return { action: 'create', created: undefined, dir, path, previous: undefined, refresh, value };
  }
  if (prevExist === true || compares) return decideUpdate(sight, value, { compares, options });
  if (path === '/') throw sight.error(107);
  sight.checkWay();
  const previous = refresh ? sight.existing() : sight.node;
  if (previous?.record.dir === true) throw sight.error(102);
  const kept = refresh ? (previous?.value ?? '') : value;
  return { action: 'set', created: undefined, dir, path, previous, refresh, value: kept };
}

function decideUpdate(
  sight: Sight,
  value: string,
  { compares, options }: { readonly compares: boolean; readonly options: KeysSetOptions },
): Put {
  const previous = sight.existing();
  const dir = previous.record.dir === true;
  if (dir && (compares || value !== '')) throw sight.error(102);
  if (compares) checkCompare(sight, previous, options);
  return {
    action: compares ? 'compareAndSwap' : 'update',
    created: previous.createdIndex,
    dir,
    path: sight.path,
    previous,
    refresh: options.refresh === true,
    value: options.refresh === true ? previous.value : value,
  };
}

function checkCompare(
  sight: Sight,
  { kv, value }: StoredNode,
  { prevIndex, prevValue }: Pick<KeysSetOptions, 'prevIndex' | 'prevValue'>,
): void {
  const wrong: string[] = [];
  if (prevValue !== undefined && prevValue !== value) wrong.push(`[${prevValue} != ${value}]`);
  if (prevIndex !== undefined && prevIndex !== kv.modRevision)
    wrong.push(`[${String(prevIndex)} != ${String(kv.modRevision)}]`);
  if (wrong.length > 0) throw sight.error(101, wrong.join(' '));
}

/** `createInOrder`: `sight` is of the directory, and has read beside it what the last one wrote. */
export function planInOrder(tree: Tree, value: string): (sight: Sight, mark: string) => Plan {
  return (sight, mark) => {
    sight.checkWay(true);
    const { layout } = tree;
    const last = sight.also[0];
    const name = nextInOrder(sight.index, last?.string());
    const path = `${sight.path === '/' ? '' : sight.path}/${name}`;
    const put: Put = {
      action: 'create',
      created: undefined,
      dir: false,
      path,
      previous: undefined,
      refresh: false,
      value,
    };
    const plan = planPut(tree, sight, { mark, put });
    const order = layout.lastInOrder(sight.path);
    const guards = [
      ...plan.guards,
      // The order's own key says that nobody was given a number since; and nobody has put a file of that name.
      compare.modRevision(order, '=', last?.modRevision ?? 0n),
      compare.missing(layout.node(path)),
    ];
    const writes = (life: Life | undefined): Op[] => [...plan.writes(life), op.put(order, name)];
    return { ...plan, guards, once: last !== undefined, writes };
  };
}

/**
 * The name of the next node in order: v2's own, the index of its write in 20 digits. Where a migration from v2 has left a
 * higher one than our indices are, it goes on from there.
 */
function nextInOrder(index: bigint, last = ''): string {
  const after = /^\d+$/.test(last) ? BigInt(last) : 0n;
  return ((after > index ? after : index) + 1n).toString().padStart(20, '0');
}

function planPut(
  { client, layout }: Tree,
  sight: Sight,
  { mark, put }: { readonly mark: string; readonly put: Put },
): Plan {
  const { action, created, dir, path, previous, refresh, value } = put;
  const record = (life: Life | undefined): NodeRecord => ({
    action,
    mark,
    ...(dir ? { dir } : {}),
    ...(created === undefined ? {} : { created: created.toString() }),
    ...(life === undefined ? {} : { expires: life.expires }),
    ...(refresh ? { refresh } : {}),
  });
  const wall = client.clock.wall();
  return {
    answer: (index, life) => ({
      action,
      index,
      node: {
        createdIndex: created ?? index,
        dir,
        key: path,
        modifiedIndex: index,
        nodes: undefined,
        value: dir ? undefined : value,
        ...lifeOf(life?.expires, client.clock.wall()),
      },
      prevNode: previous === undefined ? undefined : shownNode(previous, wall),
    }),
    guards: sight.guards(),
    marked: layout.node(path),
    oldLease: leaseOf(previous),
    once: previous !== undefined,
    writes: (life) => [
      ...missingDirs(layout, sight, { mark, path }),
      op.put(layout.node(path), encodeNode(record(life), dir ? '' : value), { leaseId: life?.leaseId }),
    ],
  };
}

/** The directories that are made on the way. */
function missingDirs(
  layout: Layout,
  sight: Sight,
  { mark, path }: { readonly mark: string; readonly path: string },
): Op[] {
  const missing = sight.missing(path !== sight.path);
  return missing.map((each) =>
    op.put(layout.node(each), encodeNode({ action: 'mkdir', dir: true, mark }, '')),
  );
}

/** `delete`, and with something to compare, compareAndDelete. `sight` has read beside it what is in the directory. */
export function planDelete(
  { client, layout }: Tree,
  options: KeysDeleteOptions,
): (sight: Sight, mark: string) => Plan {
  const { prevIndex, prevValue, recursive = false } = options;
  const compares = prevIndex !== undefined || prevValue !== undefined;
  return (sight, mark) => {
    const { path } = sight;
    if (path === '/') throw sight.error(compares ? 102 : 107);
    const previous = sight.existing();
    const dir = previous.record.dir === true;
    if (dir && (compares || !(recursive || options.dir === true))) throw sight.error(102);
    if (compares) checkCompare(sight, previous, options);
    if (dir && !recursive && sight.also.length > 0) throw sight.error(108);
    const action = compares ? 'compareAndDelete' : 'delete';
    const wall = client.clock.wall();
    const guards = sight.guards();
    return {
      answer: (index) => ({
        action,
        index,
        node: goneNode(previous, index),
        prevNode: shownNode(previous, wall),
      }),
      guards: dir && !recursive ? [...guards, nothingIn(layout, path)] : guards,
      marked: layout.lastDeleted,
      oldLease: leaseOf(previous),
      once: true,
      writes: () => [
        op.delete(layout.node(path)),
        ...(dir ? [op.delete(layout.descendants(path))] : []),
        journalOp(layout, { action, mark, path }),
      ],
    };
  };
}

/** That no node is in a directory; leftovers of one that has expired in it do not count. */
function nothingIn(layout: Layout, path: string): ReturnType<typeof isEmpty> {
  return compare.createRevision(layout.children(path), '=', 0n);
}

/** A deleted or expired node as v2 showed it. */
export function goneNode(
  { createdIndex, path, record }: StoredNode,
  index: bigint,
): ReturnType<typeof shownNode> {
  return {
    createdIndex,
    dir: record.dir === true,
    expiration: undefined,
    key: path,
    modifiedIndex: index,
    nodes: undefined,
    ttl: undefined,
    value: undefined,
  };
}

/** A lease that we granted for this node alone. */
function leaseOf(node: StoredNode | undefined): bigint | undefined {
  return node?.record.expires === undefined ? undefined : node.kv.leaseId;
}
