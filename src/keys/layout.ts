/**
 * Where a node of v2's tree lies in etcd v3.
 *
 *     <prefix><directory>//<name>        a file or directory: `app//a` is /a, `app/a/b//c` is /a/b/c
 *     <prefix><directory>/last-in-order  written by each createInOrder in the directory
 *     <prefix>/last-deleted              written by each deletion: what it was, for the watchers
 *
 * v2's paths have no empty part, so `//` stands before a node's name and nowhere else. The children of /a/b are the range
 * `app/a/b//`, and all below it the range `app/a/b/`: one read each.
 */
import type { KeyRange } from '../etcd/kv/key-range.js';
import { checkName, checkWellFormed, shown } from '../util/validate.js';

/** etcd takes 128 operations in a transaction, and a path's transaction names each of its directories. */
const DEEPEST = 100;

/** A path of v2, clean: `/` or `/a/b`, as `path.Clean` of Go makes it. */
export function cleanPath(key: unknown, what = 'key'): string {
  if (typeof key !== 'string')
    throw new TypeError(`${what} must be a string, as in "/a/b", not ${shown(key)}`);
  if (key.includes('\0')) throw new TypeError(`${what} must not contain a NUL: ${shown(key)}`);
  checkWellFormed(key, what);
  const parts: string[] = [];
  for (const part of key.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  if (parts.length > DEEPEST)
    throw new RangeError(`${what} must have at most ${DEEPEST} parts, not ${parts.length}: ${shown(key)}`);
  return `/${parts.join('/')}`;
}

/** The directories above a path and the path itself, from the top; without the root, which has no key. */
export function pathsTo(path: string): string[] {
  const parts = path === '/' ? [] : path.slice(1).split('/');
  return parts.map((_, at) => `/${parts.slice(0, at + 1).join('/')}`);
}

/** Whether `path` is somewhere below `directory`. */
export function isBelow(path: string, directory: string): boolean {
  return path !== directory && path.startsWith(directory === '/' ? '/' : `${directory}/`);
}

/** Whether a watch or listing of `directory` leaves `path` out: v2 hides what begins with `_`, from above. */
export function isHidden(path: string, directory: string): boolean {
  return isBelow(path, directory) && path.slice(directory === '/' ? 0 : directory.length).includes('/_');
}

/** The keys of one tree, below a prefix. */
export class Layout {
  readonly #prefix: string;
  /** The key that each deletion writes. */
  readonly lastDeleted: string;
  /** Every key of the tree. */
  readonly all: KeyRange;

  constructor(prefix: string) {
    this.#prefix = checkName(prefix, 'prefix').replace(/\/+$/, '');
    this.lastDeleted = `${this.#prefix}/last-deleted`;
    this.all = { prefix: `${this.#prefix}/` };
  }

  /** The key of a node; the root has none. */
  node(path: string): string {
    const at = path.lastIndexOf('/');
    return `${this.#prefix}${path.slice(0, at)}//${path.slice(at + 1)}`;
  }

  /** The key that each createInOrder in a directory writes. */
  lastInOrder(directory: string): string {
    return `${this.#below(directory)}/last-in-order`;
  }

  /** The nodes in a directory. */
  children(directory: string): KeyRange {
    return { prefix: `${this.#below(directory)}//` };
  }

  /** All nodes below a directory, and whatever else is kept there. */
  descendants(directory: string): KeyRange {
    return { prefix: `${this.#below(directory)}/` };
  }

  /** The path of a node's key; undefined for a key that is not a node's. */
  path(key: string): string | undefined {
    const rest = key.slice(this.#prefix.length);
    const at = rest.indexOf('//');
    return at < 0 ? undefined : `${rest.slice(0, at)}/${rest.slice(at + 2)}`;
  }

  #below(directory: string): string {
    return `${this.#prefix}${directory === '/' ? '' : directory}`;
  }
}
