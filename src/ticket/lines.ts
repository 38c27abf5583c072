import type { Client } from '../etcd/client.js';
import { Line } from './line.js';
import type { LineName } from './line-keys.js';

const lines = new WeakMap<Client, Map<string, Line>>();

/** The line of `name`, shared by all who use it through this client. One with a key beside it is a line of its own. */
export function lineOf(client: Client, line: string | LineName): Line {
  const id: LineName = typeof line === 'string' ? { name: line } : line;
  const mapKey = id.besideKey ?? `${id.name}/`;
  const named = lines.get(client) ?? new Map<string, Line>();
  lines.set(client, named);
  let found = named.get(mapKey);
  if (found === undefined) {
    found = new Line(client, id, () => {
      if (named.get(mapKey) === found) named.delete(mapKey);
    });
    named.set(mapKey, found);
  }
  return found;
}
