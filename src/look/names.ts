/** What `look` finds of a name. All of it is plain data, ready to be printed or sent as JSON. */
import type { OwnerInfo } from '../ticket/owner.js';
import type { QueueCounts } from '../queue/inspect/listing.js';

/** What a name is used for, as its keys tell. */
export const KINDS = [
  'lock',
  'rw-lock',
  'semaphore',
  'election',
  'barrier',
  'double-barrier',
  'latch',
  'queue',
] as const;

export type Kind = (typeof KINDS)[number];

/** Somebody who holds or waits. `host`, `pid`, `since` (when it asked, by its clock) and `label` are there when it wrote them. */
export interface Party extends OwnerInfo {
  readonly key: string;
  /** Its lease in hex, as etcdctl prints it; undefined: none, so that it stays until somebody removes it. */
  readonly lease: string | undefined;
  /** The lease's seconds that are left; undefined: not asked, or the lease is gone. */
  readonly leaseLeftSeconds?: number | undefined;
  /** Its place in line: the lower, the earlier. */
  readonly createRevision: string;
  /** That of its last change, which a release compares. */
  readonly modRevision: string;
  /** Whether another client than Conclave wrote it, which does not say who it is. */
  readonly foreign: boolean;
  /** Of an election's candidate, where one name is looked at: what it says. */
  readonly value?: string;
  /** Of a read-write lock. */
  readonly mode?: 'read' | 'write';
  /** Of a semaphore's permit. */
  readonly weight?: number;
}

/** A name, and who holds it. */
export interface Name {
  readonly kind: Kind;
  readonly name: string;
  readonly holders: readonly Party[];
  /** How many wait; of a queue how many jobs are to be run. */
  readonly waiting: number;
  /** When the first of them began to wait, in ISO 8601; undefined: nobody waits, or its client does not say. */
  readonly oldestWait?: string | undefined;
  /** Of a semaphore: how many permits there are. */
  readonly limit?: number | undefined;
  /** Of a barrier, a double barrier or a queue. */
  readonly state?: 'held' | 'broken' | 'open' | 'running' | 'paused';
  /** Of a double barrier: how many are inside. Of a latch: how many are still to count it down. */
  readonly remaining?: number;
  /** Of a latch and a double barrier: how many there are to be. */
  readonly count?: number;
  /** Of a queue. */
  readonly jobs?: QueueCounts;
  /** Of a queue: how many workers there are. */
  readonly workers?: number;
}
