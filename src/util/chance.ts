import { randomBytes } from 'node:crypto';

import { nanoid } from 'nanoid';

/** Where everything comes from that is drawn by lot: jitter, names that nobody else has. */
export interface Chance {
  /** From 0 up to, and without, 1. */
  fraction(): number;
  /** A name that nobody else has, of so many characters that are safe in keys. @default 21 characters */
  id(length?: number): string;
  /** Above 0, below 2^63. */
  int63(): bigint;
}

const real: Chance = {
  fraction: () => Math.random(),
  id: (length) => nanoid(length),
  int63: () => (randomBytes(8).readBigUInt64BE() >> 1n) | 1n,
};
let source = real;

/** The process's source of chance. */
export const chance: Chance = {
  fraction: () => source.fraction(),
  id: (length) => source.id(length),
  int63: () => source.int63(),
};

/** Draws from `other` instead, until the returned function is called: a simulation's seed then tells all. */
export function drawFrom(other: Chance): () => void {
  const before = source;
  source = other;
  return () => {
    source = before;
  };
}
