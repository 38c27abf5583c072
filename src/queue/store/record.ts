/** What a job's entry holds, as its value in etcd, and what an error or a job's data is as text. */
import type { KeyValue } from '../../etcd/kv/key-value.js';
import { backoffMs, type BackoffOptions } from '../../util/backoff.js';

/** Why an attempt at a job failed. */
export interface JobError {
  /** Which attempt it was; the first is 1. */
  readonly attempt: number;
  /** When, by the wall clock of whoever noted it, in ISO 8601. */
  readonly at: string;
  /** The error as text, cut after 500 characters, or earlier if it needs many bytes. */
  readonly message: string;
}

/** What a job's entry holds: everything but its data. Kept small, since it moves with every change of state. */
export interface JobRecord {
  /** How often it has been claimed and not been handed back unharmed. */
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly backoff: Required<BackoffOptions>;
  /** When it was pushed, by the pusher's wall clock, in milliseconds since 1970. */
  readonly pushedAt: number;
  /** For how long it is kept when it is done, in milliseconds; undefined: not at all. */
  readonly keepDoneMs?: number | undefined;
  /** How many bytes its data has; undefined when an earlier version pushed it. */
  readonly bytes?: number | undefined;
  /** The latest errors, oldest first. */
  readonly errors: readonly JobError[];
  /** The revision at which it was pushed; undefined in an entry that has not moved since, and was made at it. */
  readonly bornAt?: bigint | undefined;
}

/**
 * The record of an entry that was read. Its data was made at `bornAt`: what is younger belongs to a later job of the same
 * id, pushed after somebody had removed ours by hand. Where an earlier version moved the entry, it is when that was.
 */
export interface StoredRecord extends JobRecord {
  readonly bornAt: bigint;
}

const MOST_ERRORS = 10;
const LONGEST_MESSAGE = 500;
/** Bytes of a message as JSON, so that 80 records with ten errors each fit into a request. */
const MOST_MESSAGE_BYTES = 1000;

/** The entry's value: readable JSON without what is not there yet. */
export function encodeRecord(record: JobRecord): string {
  const { attempts, backoff, bornAt, bytes, errors, keepDoneMs, maxAttempts, pushedAt } = record;
  return JSON.stringify({
    maxAttempts,
    backoffMs: [backoff.baseMs, backoff.maxMs],
    pushedAt,
    keepDoneMs,
    bytes,
    bornAt: bornAt === undefined ? undefined : Number(bornAt),
    attempts: attempts === 0 ? undefined : attempts,
    errors: errors.length === 0 ? undefined : errors,
  });
}

/** Reads an entry. What somebody else wrote there counts as a job that may be tried once. */
export function decodeRecord(entry: KeyValue): StoredRecord {
  let stored: Readonly<Record<string, unknown>> = {};
  try {
    const parsed: unknown = entry.json();
    if (typeof parsed === 'object' && parsed !== null) stored = { ...parsed };
  } catch {
    // Not ours.
  }
  const { attempts, backoffMs, bornAt, bytes, errors, keepDoneMs, maxAttempts, pushedAt } = stored;
  const [baseMs, maxMs] = Array.isArray(backoffMs) ? (backoffMs as readonly unknown[]) : [];
  return {
    attempts: count(attempts, 0),
    backoff: { baseMs: count(baseMs, 0), maxMs: count(maxMs, 0) },
    bornAt: Number.isSafeInteger(bornAt) ? BigInt(bornAt as number) : entry.createRevision,
    bytes: typeof bytes === 'number' && bytes >= 0 ? bytes : undefined,
    errors: Array.isArray(errors) ? errors.filter(isError) : [],
    keepDoneMs: count(keepDoneMs, 0) || undefined,
    maxAttempts: count(maxAttempts, 1),
    pushedAt: count(pushedAt, 0),
  };
}

function count(value: unknown, otherwise: number): number {
  return typeof value === 'number' && value >= 0 ? value : otherwise;
}

function isError(value: unknown): value is JobError {
  return typeof value === 'object' && value !== null && 'message' in value;
}

/** The record of a job whose present attempt failed. */
export function withError<R extends JobRecord>(record: R, error: unknown, wallMs: number): R {
  const failed: JobError = {
    at: new Date(wallMs).toISOString(),
    attempt: record.attempts,
    message: shortened(errorText(error)),
  };
  return { ...record, errors: [...record.errors, failed].slice(-MOST_ERRORS) };
}

/** How long a job waits after its latest failed attempt. */
export function retryDelayMs(record: JobRecord): number {
  if (record.backoff.baseMs === 0) return 0;
  return Math.round(backoffMs(Math.max(0, record.attempts - 1), record.backoff));
}

/** A job's data as JSON. Throws TypeError when it has none. */
export function encodeData(data: unknown): string {
  let text: string | undefined;
  try {
    text = json(data);
  } catch (error) {
    throw new TypeError(`a job's data must be JSON-serializable: ${errorText(error)}`, { cause: error });
  }
  if (text === undefined) {
    throw new TypeError(`a job's data must be JSON-serializable, not ${typeof data}; null is`);
  }
  return text;
}

/** An error in one line. */
function errorText(error: unknown): string {
  try {
    if (error instanceof Error) return `${error.name}: ${error.message}`;
    return typeof error === 'string' ? error : `${typeof error} ${json(error) ?? ''}`.trim();
  } catch {
    return typeof error; // A BigInt, or a circle: what was thrown may be anything.
  }
}

/** JSON.stringify, as it really is: undefined for what JSON does not know. */
function json(value: unknown): string | undefined {
  return JSON.stringify(value);
}

function shortened(message: string): string {
  let text = message.slice(0, LONGEST_MESSAGE);
  while (Buffer.byteLength(JSON.stringify(text)) > MOST_MESSAGE_BYTES)
    text = text.slice(0, text.length * 0.8);
  return text;
}
