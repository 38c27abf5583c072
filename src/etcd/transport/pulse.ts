/** Finds out whether a member is alive, when it has not answered for a while what it was asked. */
import { Metadata, status } from '@grpc/grpc-js';

import type { Clock } from '../../util/clock.js';
import type { Sent, Wire } from './wire.js';

/**
 * gRPC's health check, which etcd answers at once: it needs neither a token, nor a leader, nor the store. Who does not know
 * it says so, which is as good a sign of life.
 */
const CHECK = {
  path: '/grpc.health.v1.Health/Check',
  requestSerialize: (): Buffer => Buffer.alloc(0),
  responseDeserialize: (): true => true,
};
/** What gRPC itself, or whoever stands before a member, says when it cannot be reached. */
const NO_SIGN: ReadonlySet<status> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.INTERNAL,
  status.UNAVAILABLE,
]);

/** When a member last showed that it is alive. */
export class Pulse {
  readonly #wire: () => Wire;
  readonly #clock: Clock;
  #feltAt = 0;
  #asking: Sent | undefined;

  constructor(wire: () => Wire, clock: Clock) {
    this.#wire = wire;
    this.#clock = clock;
  }

  /** Monotonic time of the last sign of life; 0 before the first. */
  get feltAt(): number {
    return this.#feltAt;
  }

  /** A sign of life has come. */
  felt(now: number): void {
    this.#feltAt = now;
  }

  /** Asks for one. However many calls want to know, one question is under way. */
  ask(): void {
    if (this.#asking !== undefined) return;
    const message = { metadata: new Metadata(), request: undefined, rpc: CHECK };
    this.#asking = this.#wire().unary(message, (outcome) => {
      this.#asking = undefined;
      if ('reply' in outcome || !NO_SIGN.has(outcome.error.code)) this.felt(this.#clock.now());
    });
  }

  /** Asks no more: the channel is being closed. */
  stop(): void {
    this.#asking?.cancel();
  }
}
