/** What backlog-cursor.ts knows of one priority, and the reads that it asks for. */
import { STRIDE } from '../store/numbering.js';
import { ReturnedJobs, type ReturnedRead } from './returned-jobs.js';

/** One read to make. */
export type FrontRead =
  | ReturnedRead
  | {
      /** `probe`: only to see where the waiting jobs begin. */
      readonly of: 'stretch' | 'probe';
      readonly priority: number;
      /** First number, and one after the last. */
      readonly from: number;
      readonly to: number;
      readonly limit: number;
      /** Of a probe: how many jobs the numbers that we share with others should hold at most. */
      readonly most?: number;
      /** Of a stretch: whether it is one of our own blocks. */
      readonly own?: boolean;
    }
  | {
      readonly of: 'sweep';
      /** The priorities it covers, the greatest first, and one after the last number of each. */
      readonly lines: readonly { readonly priority: number; readonly to: number }[];
      /** First number, of the first priority. The others are read from 0 on. */
      readonly from: number;
      readonly limit: number;
    };

/** One of several workers' part of the front. */
export interface Share {
  /** Which of the workers, from 0 on. */
  readonly rank: number;
  readonly workers: number;
  /** Jobs in a block, a power of two. */
  readonly block: number;
}

/** What is known of one priority. */
export interface Line {
  readonly priority: number;
  head: number;
  tail: number;
  /** How many numbers the next read at the head covers at least; grows over a stretch in which nothing waits. */
  span: number;
  /** Nothing waits in our own blocks below this number, or it is being claimed. */
  own: number;
  /** All that was seen to wait below this number is being claimed. */
  claiming: number;
  /** About how many numbers there are for each waiting job near the head, a power of two. */
  unit: number;
  /** One after the greatest number that was within reach. Who waits behind it has not been thinned out by us. */
  reached: number;
  /** Whether our blocks held more than they should when they were read last: then their jobs are left alone. */
  crowded: boolean;
  readonly returned: ReturnedJobs;
}

/** One of which nothing is known. */
export function newLine(priority: number): Line {
  return {
    claiming: 0,
    crowded: false,
    head: 0,
    own: 0,
    priority,
    reached: 0,
    returned: new ReturnedJobs(),
    span: 0,
    tail: 0,
    unit: STRIDE,
  };
}

/**
 * Corrects a line's unit by how many numbers there are for each job behind its head. Jobs that others have claimed thin
 * out what is within reach: so it is only made greater on ground that was not, or a job that is stuck would be overtaken
 * by ever more.
 */
export function measure(line: Line, head: number, numbersEach: number): void {
  const unit = Math.min(STRIDE, 2 ** Math.max(0, Math.floor(Math.log2(numbersEach))));
  if (unit < line.unit || head >= line.reached) line.unit = unit;
}

/** How many jobs make a block when there are so many for each worker: few jobs are dealt out one by one. */
export function blockWithin(block: number, jobs: number): number {
  let size = block;
  while (size > 1 && size > jobs) size /= 2;
  return size;
}
