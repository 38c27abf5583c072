import { hostname } from 'node:os';

import type { KeyValue } from '../etcd/kv/key-value.js';
import type { Session } from '../session/session.js';
import { chance } from '../util/chance.js';

/** Who holds or waits, as our keys' values tell it. Keys of other clients carry none of it. */
export interface OwnerInfo {
  readonly host?: string;
  readonly pid?: number;
  /** When it asked, by its own wall clock, in ISO 8601. */
  readonly since?: string;
  readonly label?: string;
}

const host = hostname();

/** The value of a new key of ours: who we are, and an id that no other attempt has. */
export function ownerValue(session: Session, more: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    host,
    id: chance.id(),
    label: session.label,
    pid: process.pid,
    since: new Date(session.client.clock.wall()).toISOString(),
    ...more,
  });
}

/** The same value with another id. */
export function withNewId(value: string): string {
  return JSON.stringify({ ...(JSON.parse(value) as object), id: chance.id() });
}

/** Who a key's value says it is, and nothing else: what is not as we write it is left out. */
export function ownerOf(kv: KeyValue): OwnerInfo {
  const { host, pid, since, label } = readOwner(kv);
  return {
    ...(typeof host === 'string' && { host }),
    ...(typeof pid === 'number' && { pid }),
    ...(typeof since === 'string' && { since }),
    ...(typeof label === 'string' && { label }),
  };
}

/** Reads a key's value back; a value that is not ours (empty, or not such JSON) tells nothing. */
export function readOwner(kv: KeyValue): OwnerInfo & Readonly<Record<string, unknown>> {
  try {
    const value = kv.json();
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
