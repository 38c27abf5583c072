/** What is to be copied: nodes in the order of their depth, each with what is left of its life. */
import { cleanPath, pathsTo } from '../../keys/layout.js';
import type { Clock } from '../../util/clock.js';
import { checkWellFormed, shown } from '../../util/validate.js';
import { V2Error, type V2Node, type V2Store } from './v2-store.js';

/** A node of the v2 store. */
export interface SourceNode {
  readonly path: string;
  readonly dir: boolean;
  readonly value: string;
  /** When it expires, by our monotonic clock; undefined: it stays. */
  readonly expiresAt: number | undefined;
  /** When the first of it and the directories above it expires. */
  readonly goneAt: number;
  /** Why `conclave/keys` cannot hold it. */
  readonly flaw: string | undefined;
  /** A directory with names as createInOrder gives: what the next name must be greater than. */
  readonly lastInOrder: bigint | undefined;
}

const IN_ORDER = /\/(\d{20})$/;

/**
 * Reads `paths` of the store with all below them, and the directories above them. Each path is read as of one moment;
 * what is below two of them is there once. Rejects with V2Error, also when one of them does not exist.
 */
export async function readTree(
  store: V2Store,
  paths: readonly string[],
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<SourceNode[]> {
  const found = new Map<string, SourceNode>();
  for (const path of paths) {
    for (const each of path === '/' ? [path] : pathsTo(path)) {
      const wanted = each === path;
      if (!wanted && found.has(each)) continue;
      const answer = await store.read(each, { recursive: wanted, signal });
      if (answer === undefined) throw new V2Error(`there is no ${shown(path)} in the v2 store`);
      const read = { ...answer, goneAt: found.get(parentOf(each))?.goneAt ?? Infinity, readAt: clock.now() };
      const [itself, ...below] = flatten(answer.node, read);
      for (const node of wanted ? [itself, ...below] : [itself && { ...itself, lastInOrder: undefined }])
        if (node !== undefined) found.set(node.path, node);
    }
  }
  const depth = ({ path }: SourceNode): number => path.split('/').length;
  return [...found.values()].sort((a, b) => depth(a) - depth(b));
}

interface Read {
  readonly index: bigint;
  readonly readAt: number;
  /** When what is above it is gone. */
  readonly goneAt: number;
}

function* flatten(node: V2Node, read: Read): Generator<SourceNode> {
  const { dir = false, key = '/', nodes = [], value = '' } = node;
  const expiresAt = expiryOf(node, read.readAt);
  const goneAt = Math.min(read.goneAt, expiresAt ?? Infinity);
  const flaw = flawOf(key, value);
  yield { dir, expiresAt, flaw, goneAt, lastInOrder: lastInOrder(nodes, read.index), path: key, value };
  for (const each of nodes) yield* flatten(each, { ...read, goneAt });
}

/** Counted from when the answer came, so that it is never too early. */
function expiryOf({ expiration, ttl }: V2Node, readAt: number): number | undefined {
  if (expiration === undefined && ttl === undefined) return undefined;
  return readAt + (ttl ?? 0) * 1000;
}

function flawOf(path: string, value: string): string | undefined {
  try {
    checkWellFormed(path + value, 'it');
  } catch {
    return 'its name or value is not UTF-8';
  }
  try {
    return cleanPath(path, 'its path') === path ? undefined : 'its path is not clean';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The index of v2's store, of which all names that it gave are below; undefined where it gave none. */
function lastInOrder(nodes: readonly V2Node[], index: bigint): bigint | undefined {
  const names = nodes.flatMap(({ key = '' }) => IN_ORDER.exec(key)?.[1] ?? []);
  if (names.length === 0) return undefined;
  return names.map(BigInt).reduce((most, each) => (each > most ? each : most), index);
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}
