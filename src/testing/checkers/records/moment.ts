// What every record of a history says.

/** What each record says: which process it is of, and when it was, in milliseconds of one clock. */
export interface Moment {
  readonly process: string;
  readonly atMs: number;
}
