import type { KeyRange, KeyText } from '../store/key-range.js';
import { chance } from '../../util/chance.js';

/** All items of one range, and the subtrees of ranges in front of it and behind it. */
interface Node<T> {
  readonly range: KeyRange;
  readonly items: Set<T>;
  /** Random; a parent's is never less than its children's, which keeps the tree shallow. */
  readonly priority: number;
  /** The greatest end in this subtree. */
  greatestEnd: KeyText;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
}

/**
 * Items by range, found by a key inside the range: a treap ordered by where ranges begin and end, each node knowing the
 * greatest end below it (Cormen et al., "Interval trees"). Everything costs O(log n) and a step per answer.
 */
export class IntervalTree<T> {
  #root: Node<T> | undefined;

  /** Adds `item` under `range`. An empty range never matches. */
  add(range: KeyRange, item: T): void {
    const known = this.#node(range);
    if (known !== undefined) {
      known.items.add(item);
      return;
    }
    const [left, right] = split(this.#root, range);
    const node: Node<T> = {
      range,
      items: new Set([item]),
      priority: chance.fraction(),
      greatestEnd: range.end,
      left: undefined,
      right: undefined,
    };
    this.#root = merge(merge(left, node), right);
  }

  /** Removes `item` from under `range`. */
  delete(range: KeyRange, item: T): void {
    const node = this.#node(range);
    if (node === undefined || !node.items.delete(item) || node.items.size > 0) return;
    this.#root = without(this.#root, range);
  }

  /** The items whose range holds `key`. */
  at(key: KeyText): T[] {
    const found: T[] = [];
    collect(this.#root, key, found);
    return found;
  }

  /** Every range, in order. */
  ranges(): KeyRange[] {
    const found: KeyRange[] = [];
    list(this.#root, found);
    return found;
  }

  #node(range: KeyRange): Node<T> | undefined {
    let node = this.#root;
    while (node !== undefined) {
      const order = compare(range, node.range);
      if (order === 0) return node;
      node = order < 0 ? node.left : node.right;
    }
    return undefined;
  }
}

function compare(a: KeyRange, b: KeyRange): number {
  if (a.begin !== b.begin) return a.begin < b.begin ? -1 : 1;
  if (a.end !== b.end) return a.end < b.end ? -1 : 1;
  return 0;
}

/** Puts a node's greatest end right after its children changed. */
function measured<T>(node: Node<T>): Node<T> {
  let end = node.range.end;
  if (node.left !== undefined && node.left.greatestEnd > end) end = node.left.greatestEnd;
  if (node.right !== undefined && node.right.greatestEnd > end) end = node.right.greatestEnd;
  node.greatestEnd = end;
  return node;
}

/** Cuts a tree into what comes before `range` and what comes behind it. */
function split<T>(node: Node<T> | undefined, range: KeyRange): [Node<T> | undefined, Node<T> | undefined] {
  if (node === undefined) return [undefined, undefined];
  if (compare(node.range, range) < 0) {
    const [left, right] = split(node.right, range);
    node.right = left;
    return [measured(node), right];
  }
  const [left, right] = split(node.left, range);
  node.left = right;
  return [left, measured(node)];
}

/** Joins two trees, all of `left` coming before all of `right`. */
function merge<T>(left: Node<T> | undefined, right: Node<T> | undefined): Node<T> | undefined {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority >= right.priority) {
    left.right = merge(left.right, right);
    return measured(left);
  }
  right.left = merge(left, right.left);
  return measured(right);
}

function without<T>(node: Node<T> | undefined, range: KeyRange): Node<T> | undefined {
  if (node === undefined) return undefined;
  const order = compare(range, node.range);
  if (order === 0) return merge(node.left, node.right);
  if (order < 0) node.left = without(node.left, range);
  else node.right = without(node.right, range);
  return measured(node);
}

function collect<T>(node: Node<T> | undefined, key: KeyText, found: T[]): void {
  if (node === undefined || node.greatestEnd <= key) return;
  collect(node.left, key, found);
  if (node.range.begin > key) return;
  if (key < node.range.end) found.push(...node.items);
  collect(node.right, key, found);
}

function list<T>(node: Node<T> | undefined, found: KeyRange[]): void {
  if (node === undefined) return;
  list(node.left, found);
  found.push(node.range);
  list(node.right, found);
}
