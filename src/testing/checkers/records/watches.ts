// What was written, and what watchers were told of it.
import type { Moment } from './moment.js';

/** A change of one key. */
export interface ChangedKey {
  readonly key: string;
  readonly kind: 'put' | 'delete';
}

/** What a watch is on: one key, all that begin so, or those from `start` to before `end`. */
export type WatchedRange =
  string | { readonly prefix: string } | { readonly start: string; readonly end: string };

/** A key as a snapshot has it. */
export interface ListedKey {
  readonly key: string;
  readonly modRevision: bigint;
}

/** The history of the store. A `commit` has all changes of its revision, in their order, also of what nobody watches. */
export type CommitRecord = Moment &
  (
    | { readonly is: 'commit'; readonly revision: bigint; readonly changes: readonly ChangedKey[] }
    /** What happened up to that revision cannot be watched any more. */
    | { readonly is: 'compacted'; readonly revision: bigint }
    /** The store is what it was at that revision (0n: empty): later ones are lost, and will come again for something else. */
    | { readonly is: 'reverted'; readonly revision: bigint }
  );

/**
 * Watches; `watch` is a number that is unique in the history. A watch that goes on where another one ended is one of its own,
 * `from` the other one's `nextRevision`. `watchBegins` stands before its first batch, and a batch where its reader gets it,
 * after the commits that it tells of. `watchEnds`: it was closed, or failed, and owes nothing any more.
 */
export type WatchRecord = Moment & { readonly watch: number } & (
    | {
        readonly is: 'watchBegins';
        readonly range: WatchedRange;
        /** The first revision that it is to tell of: its `startRevision`, or what `created` resolved with, and one. Undefined: not known. */
        readonly from: bigint | undefined;
        readonly filter?: 'noput' | 'nodelete';
      }
    | {
        readonly is: 'watchBatch';
        /** The store's revision, of the batch's header. */
        readonly revision: bigint;
        /** None in a progress report, and in a snapshot. */
        readonly events: readonly (ChangedKey & ListedKey)[];
        /** Where another watch would go on. */
        readonly nextRevision?: bigint;
        /** After a relist: all keys of the range, in any order. */
        readonly snapshot?: readonly ListedKey[];
        /** A fragment of a batch that was not joined: the rest of its last revision is in the next one. */
        readonly more?: boolean;
      }
    | { readonly is: 'watchEnds' }
  );
