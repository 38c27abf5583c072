/** Sorting keys, as they are read, into the names that they belong to. */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { LineFound } from './line.js';
import { seenKey } from './seen-key.js';
import type { SpaceFound } from './spaces.js';

/** What the keys are found to be. */
export class Finds {
  readonly #lines = new Map<string, LineFound>();
  readonly spaces: SpaceFound[] = [];

  /** Takes the next key; gives back the prefix of what need not be looked at. */
  take(kv: KeyValue): string | undefined {
    const seen = seenKey(kv);
    if (seen === undefined) return undefined;
    if (seen.is === 'hidden') return seen.prefix;
    if (seen.is === 'inside') {
      this.spaces.push(seen);
      return seen.prefix;
    }
    const line = this.#line(seen.name);
    if (seen.is === 'note') line.notes.set(seen.suffix, kv);
    else if (seen.is === 'beside') line[seen.what] = kv;
    else {
      line.tickets.push(kv);
      line.proven ||= seen.proven;
    }
    return undefined;
  }

  /** Those names that are lines. */
  get lines(): readonly LineFound[] {
    return [...this.#lines.values()].filter(({ isLine }) => isLine);
  }

  #line(name: string): LineFound {
    let line = this.#lines.get(name);
    if (line === undefined) this.#lines.set(name, (line = new LineFound(name)));
    return line;
  }
}
