import { type Client, hasCode } from 'conclave';

/** A stretch of the store's revisions. */
export interface Window {
  /** Known before a call began. */
  readonly before: bigint;
  /** Known after it had ended. */
  readonly after: bigint;
}

/** What came of a call, and when: a value, or why there is none. */
export interface Outcome<T = unknown> extends Window {
  readonly value?: T;
  readonly error?: string;
}

/** Runs `work` between two looks at the store's revision. Never rejects because `work` did. */
export async function outcomeOf<T>(client: Client, work: () => Promise<T>): Promise<Outcome<T>> {
  const before = await revisionOf(client);
  const came = await work().then(
    (value) => ({ value }),
    (error: unknown) => ({ error: errorText(error) }),
  );
  return { ...came, after: await revisionOf(client), before };
}

/** An error's code, or its text if it has none. */
export function errorText(error: unknown): string {
  if (hasCode(error)) return error.code;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

async function revisionOf(client: Client): Promise<bigint> {
  const { revision } = await client.kv.range('revision', { countOnly: true });
  return revision;
}
