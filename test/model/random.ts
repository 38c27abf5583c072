/** A random source that its seed repeats. */
export interface Random {
  /** A number from 0 to 1, 1 excluded. */
  next(): number;
  /** A whole number from 0 to `below`, `below` excluded. */
  int(below: number): number;
  /** Whether something of this probability happens. */
  chance(probability: number): boolean;
  /** One of the items. */
  pick<T>(items: readonly T[]): T;
  /** One of the names, as often as its weight says. */
  weighted<T extends string>(weights: Readonly<Record<T, number>>): T;
  /** Another source, for an actor of its own. */
  fork(): Random;
}

/** mulberry32. */
function randomOf(seed: number): Random {
  let state = seed >>> 0;
  const random: Random = {
    chance: (probability) => random.next() < probability,
    fork: () => randomOf(random.int(2 ** 32)),
    int: (below) => Math.floor(random.next() * below),
    next() {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = state;
      mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    },
    pick<T>(items: readonly T[]): T {
      const item = items[random.int(items.length)];
      if (item === undefined) throw new RangeError('nothing to pick from');
      return item;
    },
    weighted<T extends string>(weights: Readonly<Record<T, number>>): T {
      const names = Object.keys(weights) as T[];
      return random.pick(names.flatMap((name) => Array.from({ length: weights[name] }, () => name)));
    },
  };
  return random;
}

/** The source of a run: its seed is `CONCLAVE_SEED`, or a new one, and printed, so that the run can be repeated. */
export function newRandom(what: string): Random {
  const given = process.env['CONCLAVE_SEED'];
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
  console.log(`# ${what}: CONCLAVE_SEED=${seed}`);
  return randomOf(seed);
}
