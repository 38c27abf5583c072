/** What a workload is: something that processes of a run do, what it leaves, and who judges it. */
import { type Client, ConclaveError, type Session } from 'conclave';
import type { HistoryRecord, SimProcess, World } from 'conclave/testing';

import type { Stage } from './stage.js';

/** Of all sessions in a run. */
export const TTL_SECONDS = 3;
/** For how long a client tries, in milliseconds, where nothing else is said. */
export const USUAL_MS = 3000;

/** Made anew for each run, if it remembers anything. */
export interface Workload {
  readonly name: string;
  /** Keys that may be there when all is over. */
  readonly stays?: RegExp;
  /** Keys that the next one who leaves removes, when the last one was killed. */
  readonly lingers?: RegExp;
  /** Keys that somebody may remove by hand. */
  readonly removable?: RegExp;
  /** Begins to write down what etcd has of it. */
  begin?(stage: Stage): void;
  /** What a session of a process has of it. */
  join(seat: Seat): Part;
  /** Told of the keys that are there when all is over. */
  looked?(stage: Stage, keys: readonly string[]): void;
}

/** A session's part of a workload. */
export interface Part {
  /** One operation, or a few; it ends by itself. */
  step(): Promise<void>;
  /** The last one, whom nobody disturbs any more, gets everything at once. Rejects when it does not. */
  finish?(): Promise<void>;
  /** Ends what goes on beside the steps. */
  close?(): Promise<void>;
}

/** Where a part is played: one session of one process. */
export class Seat {
  readonly stage: Stage;
  readonly process: SimProcess;
  readonly random: World['random'];
  readonly client: Client;
  readonly session: Session;
  /** Its lease has been an earlier life's. */
  readonly isResumed: boolean;

  constructor(
    stage: Stage,
    {
      client,
      isResumed,
      process,
      random,
      session,
    }: Pick<Seat, 'client' | 'isResumed' | 'process' | 'random' | 'session'>,
  ) {
    this.isResumed = isResumed;
    this.stage = stage;
    this.process = process;
    this.random = random;
    this.client = client;
    this.session = session;
  }

  /** Adds to the history what this process did; the record may be completed later. */
  note(record: Record<string, unknown>): Record<string, unknown> {
    const noted = { atMs: this.stage.world.nowMs, process: this.process.name, ...record };
    this.stage.note(noted as unknown as HistoryRecord);
    return noted;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.process.clock.setTimer(ms, resolve));
  }

  /** For how long somebody is ready to wait: hardly, a little, long. */
  patience(): { readonly timeoutMs: number } {
    return { timeoutMs: this.random.pick([50, 1000, 8000]) };
  }

  /**
   * As `patience`, or for ever: for what all give back sooner or later. Not beside what an earlier life has left, which stays
   * until somebody asks for it again; nor where etcd may be restored, of which a client that was away need not hear.
   */
  endurance(): { readonly timeoutMs?: number } {
    const isForEver = this.random.chance(0.2) && !this.isResumed && !this.stage.mayLose;
    return isForEver ? {} : this.patience();
  }
}

/** Passes over what may come of faults; throws anything else. */
export function known(error: unknown): undefined {
  if (error instanceof ConclaveError) return undefined;
  throw error;
}
