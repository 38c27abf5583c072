/** One that takes the lock in its turn, again and again. */
export interface Contender {
  /** Resolves once it holds the lock, with a number that must grow from holder to holder; rejects when told to stop. */
  lock(): Promise<bigint>;
  unlock(): Promise<void>;
}

/** So many contenders on one lock, and how to be rid of them. */
export interface Ring {
  readonly contenders: readonly Contender[];
  /** Ends all waits: every `lock()` under way rejects. */
  stop(): void;
  /** Removes what the ring left in etcd and closes its connections. */
  close(): Promise<void>;
}

/** How a ring is made. */
export type MakeRing = (endpoint: string, name: string, size: number) => Promise<Ring>;

/** The count begins when everybody has held the lock once; at the latest after this long. */
const LONGEST_START_MS = 15_000;

/**
 * Lets the lock go round for `seconds` and returns the handovers per second. Throws when two held it at once or when the
 * order of the holders' numbers was not strict: a fast lock that does not lock proves nothing.
 */
export async function handoversPerSecond(ring: Ring, seconds: number): Promise<number> {
  let holders = 0;
  let handovers = 0;
  let last = 0n;
  let begun = 0;
  let everybody = (): void => undefined;
  const wentRound = new Promise<void>((resolve) => {
    everybody = resolve;
  });
  let stopped = false;
  const over = (): boolean => stopped;
  const work = ring.contenders.map(async (contender) => {
    let first = true;
    while (!over()) {
      let token: bigint;
      try {
        token = await contender.lock();
      } catch (error) {
        if (over()) return;
        throw error;
      }
      holders += 1;
      if (holders !== 1 || token <= last) {
        throw new Error(
          `exclusion is broken: ${String(holders)} holders, token ${String(token)} after ${String(last)}`,
        );
      }
      last = token;
      handovers += 1;
      if (first && ++begun === ring.contenders.length) everybody();
      first = false;
      holders -= 1;
      await contender.unlock();
    }
  });
  const all = Promise.all(work);
  const measured = (async () => {
    await Promise.race([wentRound, pause(LONGEST_START_MS)]);
    await pause(200);
    const [from, before] = [performance.now(), handovers];
    await pause(seconds * 1000);
    const rate = ((handovers - before) * 1000) / (performance.now() - from);
    stopped = true;
    ring.stop();
    return rate;
  })();
  const [rate] = await Promise.all([measured, all]);
  return rate;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}
