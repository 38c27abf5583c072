/** What the calls on keys and leases are made through: the connection to a cluster, or a namespace's part of it. */
import type { Connection } from './connection.js';

export type Link = Pick<
  Connection,
  'clock' | 'closed' | 'endpoint' | 'endpoints' | 'parts' | 'timeoutMs' | 'token' | 'unary'
>;
