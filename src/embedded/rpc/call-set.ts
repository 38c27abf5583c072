import type { status } from '@grpc/grpc-js';

import { etcdError } from './rpc-error.js';

/** What is needed of a streaming call to end it. */
interface OpenCall {
  emit(event: 'error', error: { code: status; details: string }): boolean;
  on(event: 'close' | 'cancelled', listener: () => void): unknown;
}

/** The streaming calls that are open, so that a server that stops can end them all. */
export class CallSet {
  readonly #open = new Set<OpenCall>();

  /** Keeps `call` until it is over. */
  add(call: OpenCall): void {
    this.#open.add(call);
    const forget = (): void => void this.#open.delete(call);
    call.on('close', forget);
    call.on('cancelled', forget);
  }

  /** Ends all calls with etcd's word for a server that stops. */
  endAll(): void {
    const { code, message: details } = etcdError('SERVER_STOPPED');
    for (const call of this.#open) call.emit('error', { code, details });
    this.#open.clear();
  }
}
