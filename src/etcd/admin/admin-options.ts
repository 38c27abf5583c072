/** What the calls for operators take: limits, a member, names, ids. Each is checked before any request. */
import { checkOptions, checkLimits, shown } from '../../util/validate.js';
import type { CallOptions, MemberCallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import { memberOf } from '../transport/link.js';
import type { Endpoint } from '../transport/endpoint.js';

/** The limits of a call. Refuses options that it does not take; `others` are those that it takes beside them. */
export function limitsOf(options: CallOptions, where: string, others: readonly string[] = []): CallOptions {
  checkOptions(options, [...others, 'timeoutMs', 'signal'], where);
  const { signal, timeoutMs } = options;
  checkLimits({ signal, timeoutMs });
  return { signal, timeoutMs };
}

/** The same for a call that may be made to one member. */
export function memberLimitsOf(
  options: MemberCallOptions,
  where: string,
  connection: Connection,
  others: readonly string[] = [],
): CallOptions & { readonly endpoint: Endpoint | undefined } {
  const limits = limitsOf(options, where, [...others, 'endpoint']);
  return { ...limits, endpoint: memberOf(connection, options) };
}

/** A name, version or password: text. */
export function checkText(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new TypeError(`${what} must be a string, not ${shown(value)}`);
  return value;
}

/** An id as members have them: a bigint of 64 bits without a sign. What is beyond would become another's. */
export function checkUint64(value: unknown, what: string): bigint {
  if (typeof value !== 'bigint')
    throw new TypeError(`${what} must be a bigint, such as 1n, not ${shown(value)}`);
  if (value < 0n || value >= 2n ** 64n)
    throw new RangeError(`${what} must be from 0 to 2^64 - 1, not ${String(value)}`);
  return value;
}
