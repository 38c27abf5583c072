/** Who is told how the keeping alive of a lease goes. */
import type { ConclaveError } from '../../errors/conclave-error.js';

/** What happens to a lease that is kept alive. Called synchronously; must not throw. */
export interface LeaseListener {
  /** The server renewed the lease when asked at monotonic time `sentAt`; it now lasts `ttlSeconds` from then at least. */
  renewed(sentAt: number, ttlSeconds: number): void;
  /** The server does not know the lease: it expired or was revoked. Nothing follows. */
  expired(): void;
  /** Renewing does not work at the moment; it goes on being tried. */
  failing(error: ConclaveError): void;
}
