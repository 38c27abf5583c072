import { checkName } from '../util/validate.js';

/** The segments below which keys of this room are. No name may contain one, so no key space lies in another one. */
const SEGMENTS = ['.barrier', '.double-barrier', '.latch'] as const;

/** What all keys of a primitive begin with, `name/segment/`. Throws TypeError for a bad name; `what` is the argument's. */
export function keySpace(name: string, segment: (typeof SEGMENTS)[number], what: string): string {
  const segments = checkName(name, what).split('/');
  const taken = SEGMENTS.find((each) => segments.includes(each));
  if (taken !== undefined) {
    throw new TypeError(
      `${what} must not contain the segment ${taken}, below which keys of barriers and latches are: ${name}`,
    );
  }
  return `${name}/${segment}/`;
}
