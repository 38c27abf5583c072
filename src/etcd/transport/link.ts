/** What the calls on keys and leases are made through: the connection to a cluster, or a namespace's part of it. */
import type { MemberCallOptions } from './call.js';
import type { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';

export type Link = Pick<
  Connection,
  'clock' | 'closed' | 'endpoint' | 'endpoints' | 'parts' | 'timeoutMs' | 'token' | 'unary'
>;

/** The member that a call names. Throws TypeError and RangeError when it is none of the client's. */
export function memberOf(
  link: Pick<Link, 'endpoint'>,
  { endpoint }: Pick<MemberCallOptions, 'endpoint'>,
): Endpoint | undefined {
  return endpoint === undefined ? undefined : link.endpoint(endpoint);
}
