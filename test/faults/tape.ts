import { Client, credentials } from '@grpc/grpc-js';
import { type CallFault, type FaultProxy } from 'conclave/testing';
import type { Stage } from './scene.js';

/**
 * Records the requests of an rpc that pass a proxy, to send them again: whatever was sent once may arrive late, a second
 * time as far as we can tell, and must not do harm.
 */
export class Tape {
  readonly requests: Buffer[] = [];
  readonly #path: string;
  readonly #fault: CallFault;

  constructor(proxy: FaultProxy, path: string) {
    this.#path = path;
    // A fault that never strikes sees every request.
    this.#fault = proxy.onCall(path, 'holdRequest', {
      where: (message) => {
        this.requests.push(Buffer.from(message));
        return false;
      },
    });
  }

  /** Stops recording. */
  stop(): void {
    this.#fault.release();
  }

  /** Sends all that was recorded to the server itself, in order, and waits for each answer, whatever it is. */
  async replay({ endpoints: [endpoint = ''] }: Pick<Stage, 'endpoints'>): Promise<void> {
    const raw = new Client(new URL(endpoint).host, credentials.createInsecure());
    const asIs = (bytes: Buffer): Buffer => bytes;
    try {
      for (const request of [...this.requests]) {
        await new Promise<void>((resolve) => {
          raw.makeUnaryRequest(this.#path, asIs, asIs, request, () => resolve());
        });
      }
    } finally {
      raw.close();
    }
  }
}
