import type { BackoffOptions } from '../../util/backoff.js';
import { checkCount, checkMs, checkName, checkOptions } from '../../util/validate.js';
import type { NewJob } from './producer.js';
import { encodeData } from '../store/record.js';
import { chance } from '../../util/chance.js';

/** What a queue gives to jobs that are pushed through it, unless the push says otherwise. */
export interface QueueOptions {
  /**
   * How often a job is tried before it is dead. A worker's crash counts as an attempt, so that a job which kills its
   * workers stops doing so. @default 5
   */
  readonly maxAttempts?: number | undefined;
  /** How long a failed job waits: doubling from `baseMs` (0: no wait) to `maxMs`, less up to half at random. @default 1 s to 1 min, or to `baseMs` if that is longer */
  readonly backoff?: BackoffOptions | undefined;
  /**
   * How long a job is kept when it is done, in milliseconds: so long its id stays in use, so that pushing it again does
   * nothing, and `jobs('done')` lists it. @default 0, not at all
   */
  readonly keepDoneMs?: number | undefined;
}

/** Options of a push. */
export interface PushOptions extends QueueOptions {
  /** Jobs of greater priority go first; a whole number from -32768 to 32767. @default 0 */
  readonly priority?: number | undefined;
  /** Line up only after this many milliseconds, by the wall clocks of the pusher and of the scheduler. @default 0 */
  readonly delayMs?: number | undefined;
  /** While a job of this id is there, in whatever state, pushing it again does nothing; see `keepDoneMs`. @default a new one */
  readonly id?: string | undefined;
}

/** One job of `pushMany`. */
export interface PushItem<T = unknown> extends PushOptions {
  readonly data: T;
}

const QUEUE_OPTIONS = ['maxAttempts', 'backoff', 'keepDoneMs'] as const;
const PUSH_OPTIONS = [...QUEUE_OPTIONS, 'priority', 'delayMs', 'id'] as const;
const LONGEST_ID = 256;
/** What 12 hex digits of milliseconds hold: until the year 10889. */
const LATEST_MS = 2 ** 48 - 1;

export function checkQueueOptions(options: QueueOptions): QueueOptions {
  checkOptions(options, QUEUE_OPTIONS, 'JobQueue');
  checkLimits(options);
  return options;
}

/** A job as it will be stored. Throws TypeError or RangeError, naming what is wrong with it. */
export function newJob(data: unknown, options: PushOptions, defaults: QueueOptions, wallMs: number): NewJob {
  checkOptions(options, PUSH_OPTIONS, 'push');
  checkLimits(options);
  const { priority = 0, delayMs = 0 } = options;
  if (!Number.isInteger(priority) || priority < -32_768 || priority > 32_767) {
    throw new RangeError(`priority must be a whole number from -32768 to 32767, not ${String(priority)}`);
  }
  if (wallMs + checkMs(delayMs, 'delayMs') > LATEST_MS) {
    throw new RangeError(`delayMs must end before the year 10889, not in ${String(delayMs)} ms`);
  }
  const { baseMs, maxMs } = { ...defaults.backoff, ...options.backoff };
  const body = encodeData(data);
  const record = {
    attempts: 0,
    backoff: { baseMs: baseMs ?? 1000, maxMs: maxMs ?? Math.max(60_000, baseMs ?? 0) },
    bytes: Buffer.byteLength(body),
    errors: [],
    // 0 is as if it were not there.
    keepDoneMs: (options.keepDoneMs ?? defaults.keepDoneMs) || undefined,
    maxAttempts: options.maxAttempts ?? defaults.maxAttempts ?? 5,
    pushedAt: wallMs,
  };
  const id = options.id === undefined ? chance.id() : checkId(options.id);
  return { body, delayMs, id, named: options.id !== undefined, priority, record };
}

/** Which jobs are meant: those of these ids, or all. */
export function checkIds(ids: unknown, what: string): ReadonlySet<string> | undefined {
  if (ids === undefined) return undefined;
  if (typeof ids !== 'object' || ids === null || !(Symbol.iterator in ids))
    throw new TypeError(`${what}: ids must be a list of job ids, not ${JSON.stringify(ids)}`);
  return new Set([...(ids as Iterable<unknown>)].map(checkId));
}

/** A job's id: what a key can end with. */
function checkId(id: unknown): string {
  const text = checkName(id, "a job's id");
  if (text.length > LONGEST_ID) {
    throw new RangeError(
      `a job's id must have at most ${String(LONGEST_ID)} characters, not ${String(text.length)}`,
    );
  }
  return text;
}

function checkLimits({ maxAttempts, backoff, keepDoneMs }: QueueOptions): void {
  if (keepDoneMs !== undefined) checkDelay(keepDoneMs, 'keepDoneMs');
  if (maxAttempts !== undefined) checkCount(maxAttempts, 'maxAttempts', 1);
  if (backoff === undefined) return;
  checkOptions(backoff, ['baseMs', 'maxMs'], 'backoff');
  if (backoff.baseMs !== undefined) checkDelay(backoff.baseMs, 'backoff.baseMs');
  if (backoff.maxMs !== undefined) checkDelay(backoff.maxMs, 'backoff.maxMs');
}

/** The longest a failed job may be made to wait: ten years. */
const LONGEST_DELAY_MS = 10 * 365 * 86_400_000;

/** A delay after a failure, in milliseconds. */
export function checkDelay(value: unknown, what: string): number {
  const delayMs = checkMs(value, what);
  if (delayMs <= LONGEST_DELAY_MS) return delayMs;
  throw new RangeError(`${what} must be at most ${String(LONGEST_DELAY_MS)} ms, not ${String(delayMs)}`);
}
