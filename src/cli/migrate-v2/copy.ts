/**
 * Copies nodes of a v2 store to conclave/keys.
 *
 * Each node is one transaction of its own, with its TTL, which commits only on what was seen there. So it may be broken off
 * anywhere, and the next run goes on; what two runs at once do is done once.
 *
 * Nothing is deleted, and without `force` nothing overwritten.
 */
import { hasCode } from '../../errors/conclave-error.js';
import type { Client } from '../../etcd/client.js';
import { compare } from '../../etcd/kv/compare.js';
import { op } from '../../etcd/kv/op.js';
import { makeChange, type Tree } from '../../keys/change.js';
import { KeysAPI } from '../../keys/keys-api.js';
import { KeysError } from '../../keys/keys-error.js';
import { Layout } from '../../keys/layout.js';
import type { KeysNode } from '../../keys/node.js';
import { planSet } from '../../keys/plans.js';
import type { SourceNode } from './v2-tree.js';

/** So many requests are under way at once. */
const AT_ONCE = 32;
/** What others change while it is copied is looked at anew, so often. */
const MOST_TRIES = 20;
const PARENT_GONE = 'a directory above it has expired or was deleted there meanwhile; run it again';
const LONGEST_TTL_SECONDS = 9_000_000_000;

/** What became of a node. */
export type Fate =
  /** It was not there. */
  | 'created'
  /** The same was there. */
  | 'same'
  /** Another value, or one that expires where this one does not, was there, and was overwritten. */
  | 'replaced'
  /** The same, and it was left as it is. */
  | 'different'
  /** A file where a directory is wanted, or the other way round; or a file on the way. */
  | 'blocked'
  /** It has expired since it was read. */
  | 'expired'
  /** It is not one that can be held. */
  | 'unfit';

/** A node's fate, and what there is to say of it. */
export interface Outcome {
  readonly path: string;
  readonly fate: Fate;
  readonly why: string | undefined;
}

/** How to copy. */
export interface CopyOptions {
  readonly client: Client;
  /** Of the KeysAPI. */
  readonly prefix: string;
  readonly force: boolean;
  /** Only look. */
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  readonly report: (outcome: Outcome) => void;
}

/**
 * Copies `nodes`, which come in the order of their depth, and reports each. Rejects with a ConclaveError when the target
 * fails, and with the signal's reason; what was reported by then is done.
 */
export async function copyTree(nodes: readonly SourceNode[], options: CopyOptions): Promise<void> {
  const copier = new Copier(options);
  let level: SourceNode[] = [];
  for (const [at, node] of nodes.entries()) {
    level.push(node);
    const next = nodes[at + 1];
    if (next !== undefined && depth(next) === depth(node)) continue;
    await eachOf(level, (each) => copier.copy(each));
    level = [];
  }
}

function depth({ path }: SourceNode): number {
  return path === '/' ? 0 : path.split('/').length - 1;
}

/** Some at a time; after the first failure no more are begun. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  const lanes = Array.from({ length: AT_ONCE }, async () => {
    for (const item of left) await work(item);
  });
  try {
    await Promise.all(lanes);
  } finally {
    // Those of the other lanes find nothing more to do.
    left.return?.();
    await Promise.allSettled(lanes);
  }
}

class Copier {
  readonly #options: CopyOptions;
  readonly #keys: KeysAPI;
  readonly #tree: Tree;

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#keys = new KeysAPI(options.client, { prefix: options.prefix });
    this.#tree = { client: options.client, layout: new Layout(options.prefix) };
  }

  async copy(node: SourceNode): Promise<void> {
    const { report, signal } = this.#options;
    signal.throwIfAborted();
    const outcome = await this.#settled(node);
    const there = outcome.fate !== 'blocked' && outcome.fate !== 'expired' && outcome.fate !== 'unfit';
    if (there && node.lastInOrder !== undefined) await this.#keepOrder(node.path, node.lastInOrder);
    if (node.path !== '/') report({ path: node.path, ...outcome });
  }

  /** Again and again, while others change it meanwhile or nobody knows what came of a write. */
  async #settled(node: SourceNode): Promise<Omit<Outcome, 'path'>> {
    for (let left = MOST_TRIES; ; left--) {
      try {
        return await this.#tried(node);
      } catch (error) {
        if (error instanceof RangeError || hasCode(error, 'REQUEST_TOO_LARGE'))
          return { fate: 'unfit', why: error.message };
        const raced = error instanceof KeysError || hasCode(error, 'UNKNOWN_OUTCOME');
        if (!raced || left === 0) throw error;
      }
    }
  }

  async #tried(node: SourceNode): Promise<Omit<Outcome, 'path'>> {
    const { client, dryRun, force, signal } = this.#options;
    const { dir, expiresAt, flaw, path, value } = node;
    if (flaw !== undefined) return { fate: 'unfit', why: flaw };
    const now = client.clock.now();
    if (node.goneAt <= now) return { fate: 'expired', why: undefined };
    if (path === '/') return { fate: 'same', why: undefined };
    const there = await this.#read(path);
    if (there === 'blocked') return { fate: 'blocked', why: 'a file stands on the way to it' };
    const ttl = expiresAt === undefined ? undefined : ttlSeconds(expiresAt - now);
    if (there === undefined) {
      const isMade = dryRun || (await this.#create(node, ttl));
      if (isMade) return { fate: 'created', why: undefined };
      const isGone = node.goneAt <= client.clock.now();
      return isGone ? { fate: 'expired', why: undefined } : { fate: 'blocked', why: PARENT_GONE };
    }
    if (there.dir !== dir)
      return { fate: 'blocked', why: `${kind(there.dir)} is there, and here ${kind(dir)} is wanted` };
    const difference = differenceOf(node, there);
    if (difference === undefined) return { fate: 'same', why: undefined };
    if (!force) return { fate: 'different', why: difference };
    if (!dryRun && dir) await this.#keys.update(path, undefined, { dir, signal, ttl });
    else if (!dryRun) await this.#keys.set(path, value, { prevIndex: there.modifiedIndex, signal, ttl });
    return { fate: 'replaced', why: difference };
  }

  async #read(path: string): Promise<KeysNode | 'blocked' | undefined> {
    try {
      return (await this.#keys.get(path, { signal: this.#options.signal })).node;
    } catch (error) {
      if (!(error instanceof KeysError)) throw error;
      return error.errorCode === 104 ? 'blocked' : undefined;
    }
  }

  /**
   * Creates it, but never the directories above it: those were copied before, and one that has expired since would come
   * back without its TTL. Resolves with false then.
   */
  async #create({ dir, path, value }: SourceNode, ttl: number | undefined): Promise<boolean> {
    const make = planSet(this.#tree, { options: { dir, prevExist: false, ttl }, value: dir ? '' : value });
    const change = {
      path,
      plan: (...[sight, mark]: Parameters<typeof make>): ReturnType<typeof make> => {
        if (sight.missing(false).length > 0) throw sight.error(100);
        return make(sight, mark);
      },
      ttl,
    };
    try {
      await makeChange(this.#tree, change, { signal: this.#options.signal });
      return true;
    } catch (error) {
      if (error instanceof KeysError && error.errorCode === 100) return false;
      throw error;
    }
  }

  /** Lets createInOrder go on above the names that v2 has given, which may be higher than the target's revisions. */
  async #keepOrder(directory: string, last: bigint): Promise<void> {
    const { client, dryRun, signal } = this.#options;
    if (dryRun) return;
    const key = this.#tree.layout.lastInOrder(directory);
    const exists =
      directory === '/' ? [] : [compare.createRevision(this.#tree.layout.node(directory), '>', 0n)];
    for (let left = MOST_TRIES; left > 0; left--) {
      const kv = await client.kv.get(key, { signal });
      const given = /^\d+$/.exec(kv?.string() ?? '')?.[0];
      if (given !== undefined && BigInt(given) >= last) return;
      const { succeeded } = await client.kv.txn(
        {
          if: [...exists, compare.modRevision(key, '=', kv?.modRevision ?? 0n)],
          then: [op.put(key, last.toString().padStart(20, '0'))],
        },
        { idempotent: true, signal },
      );
      if (succeeded) return;
    }
  }
}

function kind(dir: boolean): string {
  return dir ? 'a directory' : 'a file';
}

function ttlSeconds(leftMs: number): number {
  return Math.min(Math.max(1, Math.ceil(leftMs / 1000)), LONGEST_TTL_SECONDS);
}

function differenceOf({ dir, expiresAt, value }: SourceNode, there: KeysNode): string | undefined {
  if (!dir && value !== there.value) return 'another value is there';
  const expires = there.ttl !== undefined;
  if (expires === (expiresAt !== undefined)) return undefined;
  return expires ? 'what is there expires' : 'what is there does not expire';
}
