/** Jobs that came back to their places, and the key that announces them: its latest value names those of one transaction. */
import type { KeyValue } from '../../etcd/kv/key-value.js';
import type { Place } from './keys.js';
import { chance } from '../../util/chance.js';

/** A job that is back at its place, and the turn of the workers at which it came: they share such jobs out by it. */
export interface Returned {
  readonly place: Place;
  readonly turn: number;
}

/** Turns for jobs that come back, one after the other, so that no worker gets more of them than another. */
export class Turns {
  #next = Math.floor(chance.fraction() * 65_536);

  take(places: readonly Place[]): Returned[] {
    return places.map((place) => ({ place, turn: this.#next++ }));
  }
}

/** What an announcement of returned jobs holds. */
export function encodeReturned(returned: readonly Returned[]): string {
  return JSON.stringify(
    returned.map(({ place: { priority, number, id }, turn }) => [priority, number, id, turn]),
  );
}

/** The jobs that an announcement names. */
export function decodeReturned(kv: KeyValue): readonly Returned[] {
  try {
    const returned = kv.json<readonly (readonly [number, number, string, number?])[]>();
    // Those who do not say whose turn it is are of an earlier version.
    return returned.map(([priority, number, id, turn], at) => ({
      place: { id, number, priority },
      turn: turn ?? at,
    }));
  } catch {
    return []; // Somebody else wrote it: it announces nothing.
  }
}
