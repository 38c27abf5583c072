/**
 * The ids of leases whose choice is left to the server. As etcd's (its package idutil), each is above the one before, also
 * after a restart: 15 bits of the member's id, 40 of the time in milliseconds when the server began, and 8 of a count, which
 * runs over into the time.
 */
const COUNT_BITS = 8n;
const SUFFIX_BITS = 48n;

/** Draws an id that is above 0, and above those it has drawn before. */
export type LeaseIds = () => bigint;

/** By the wall clock, in milliseconds since 1970. */
export function risingIds(memberId: bigint, wallMs: number): LeaseIds {
  const prefix = BigInt.asUintN(15, memberId) << SUFFIX_BITS;
  let suffix = BigInt.asUintN(40, BigInt(Math.trunc(wallMs))) << COUNT_BITS;
  return () => {
    suffix = BigInt.asUintN(Number(SUFFIX_BITS), suffix + 1n);
    return prefix | suffix;
  };
}
