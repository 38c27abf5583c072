import type { Client } from '../etcd/client.js';
import { Line } from './line.js';

const lines = new WeakMap<Client, Map<string, Line>>();

/** The line of `name`, shared by all who use it through this client. */
export function lineOf(client: Client, name: string): Line {
  const named = lines.get(client) ?? new Map<string, Line>();
  lines.set(client, named);
  let line = named.get(name);
  if (line === undefined) {
    line = new Line(client, name, () => {
      if (named.get(name) === line) named.delete(name);
    });
    named.set(name, line);
  }
  return line;
}
