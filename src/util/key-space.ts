/**
 * Where the keys of the primitives are that keep several: below a segment of their own, `name/.queue/…`. No name of
 * anything may contain one of these segments, so no primitive's keys lie among those of another one.
 */
import { checkName } from './validate.js';

/** Each segment, and whose keys are below it. */
const RESERVED = {
  '.barrier': 'barriers',
  '.conclave': 'sessions',
  '.double-barrier': 'double barriers',
  '.latch': 'latches',
  '.once': 'what happens once',
  '.queue': 'queues',
} as const;

/** The reserved segments, in the order of their bytes. */
export const RESERVED_SEGMENTS: readonly string[] = Object.keys(RESERVED).sort();

/** What the keys of sessions begin with, which belong to no name. */
export const SESSION_KEYS = '.conclave/';

/** What all keys of a primitive begin with, `name/segment/`. Throws TypeError for a bad name; `what` is the argument's. */
export function keySpace(name: string, segment: keyof typeof RESERVED, what: string): string {
  return `${checkPlainName(name, what)}/${segment}/`;
}

/** The name of a primitive: as `checkName`, and without the segments that are reserved for keys. */
export function checkPlainName(name: unknown, what: string): string {
  const checked = checkName(name, what);
  const segments = checked.split('/');
  for (const [segment, owners] of Object.entries(RESERVED)) {
    if (segments.includes(segment)) {
      throw new TypeError(
        `${what} must not contain the segment ${segment}, below which the keys of ${owners} are: ${checked}`,
      );
    }
  }
  return checked;
}
