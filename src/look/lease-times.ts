/** What is left of the leases that somebody stands on. */
import type { Moment } from './moment.js';
import type { Party } from './names.js';

/** Asks what is left of the leases of these, of each lease once; the result adds it to one of them. */
export async function leaseTimes(
  moment: Moment,
  parties: readonly Party[],
): Promise<<P extends Party>(party: P) => P> {
  const left = await moment.leasesLeft(parties.flatMap(({ lease }) => leaseOf(lease) ?? []));
  return (party) => {
    const id = leaseOf(party.lease);
    const seconds = id === undefined ? undefined : left.get(id);
    return seconds === undefined ? party : { ...party, leaseLeftSeconds: seconds };
  };
}

/** A lease's id, from its hex. */
export function leaseOf(hex: string | undefined): bigint | undefined {
  if (hex === undefined) return undefined;
  return hex.startsWith('-') ? -BigInt(`0x${hex.slice(1)}`) : BigInt(`0x${hex}`);
}
