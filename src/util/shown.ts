/** How what users hold shows itself in JSON and on the console: what it is, nothing secret, and no innards. */
import { inspect, type InspectOptions } from 'node:util';

/** What is shown of a thing, by name. What is undefined is left out. */
export type Shown = Readonly<Record<string, unknown>>;

/** The name of the method by which `console.log` shows a thing. */
export const INSPECT: typeof inspect.custom = inspect.custom;

/** For `toJSON`: integers of 64 bits become decimal strings, however deep they are. */
export function asJson(fields: Shown): Record<string, unknown> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, withoutBigints(value)]));
}

function withoutBigints(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return value.map(withoutBigints);
  if (typeof value !== 'object' || value === null || 'toJSON' in value) return value;
  return asJson(value as Shown);
}

/** What `JSON.stringify` asks of a plain result. */
const TO_JSON: PropertyDescriptor = {
  value(this: Shown): unknown {
    return asJson(this);
  },
};

/** Lets a plain result with integers of 64 bits be turned into JSON. It stays plain: nobody sees the method. */
export function inJson<T extends object>(result: T): T {
  return Object.defineProperty(result, 'toJSON', TO_JSON);
}

/** For `inspect.custom`: as a plain object of this name. */
export function asText(name: string, fields: Shown, options: InspectOptions): string {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return `${name} ${inspect(Object.fromEntries(entries), options)}`;
}
