/** What is measured, and how: the same for every client. */

/** One workload: runs for about `seconds`, resolves with how many per second. */
export type Workload = (seconds: number) => Promise<number>;

/** The workloads a client can do; what it has no means for is left out. */
export type Workloads = Partial<Record<WorkloadName, Workload>>;

export const WORKLOADS = {
  election: 'election handover, 2 candidates',
  get: 'get, 512 at once',
  lock: 'lock + unlock, nobody else',
  put: 'put, 512 at once',
  watch: 'watch, 20000 events of history',
} as const;

export type WorkloadName = keyof typeof WORKLOADS;

/** One client under measurement. */
export interface Peer {
  readonly name: string;
  readonly workloads: Workloads;
  close(): Promise<void>;
}

export const IN_FLIGHT = 512;
export const WATCHED_EVENTS = 20_000;
/** What every put writes: 64 bytes. */
export const VALUE = '7'.padStart(64, '0');

/** Repeats `step`, one at a time, for `seconds`; how often per second. */
export async function oneByOne(seconds: number, step: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  let count = 0;
  while (performance.now() - from < seconds * 1000) {
    await step();
    count += 1;
  }
  return (count * 1000) / (performance.now() - from);
}

/** Keeps `IN_FLIGHT` calls under way for `seconds`; how many were answered per second. */
export async function atOnce(
  seconds: number,
  call: (worker: number, turn: number) => Promise<unknown>,
): Promise<number> {
  const from = performance.now();
  let answered = 0;
  const worker = async (number: number): Promise<void> => {
    for (let turn = 0; performance.now() - from < seconds * 1000; turn++) {
      await call(number, turn);
      answered += 1;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, (_, number) => worker(number)));
  return (answered * 1000) / (performance.now() - from);
}

/** Lets the candidates lead in turn, each standing again as soon as it has resigned; terms per second. */
export async function inTurn(seconds: number, terms: readonly (() => Promise<unknown>)[]): Promise<number> {
  const from = performance.now();
  let count = 0;
  await Promise.all(
    terms.map(async (term) => {
      while (performance.now() - from < seconds * 1000) {
        await term();
        count += 1;
      }
    }),
  );
  return (count * 1000) / (performance.now() - from);
}
