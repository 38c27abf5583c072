import type { KeyText } from './key-range.js';

/** What a write tells about keys and leases. */
export interface LeaseKeys {
  attach(lease: bigint, key: KeyText): void;
  detach(lease: bigint, key: KeyText): void;
}
