/** etcd in the simulated world: the embedded server's store, lessor and watches, behind simulated connections. */
import { EventEmitter } from 'node:events';

import { type ServerDuplexStream, status } from '@grpc/grpc-js';

import { type Member, makeMember } from '../../embedded/member.js';
import { type Rpcs, statusOf } from '../../embedded/rpc/rpc-server.js';
import type { Rpc } from '../../proto/rpc.js';
import type { SimProcess } from './sim-process.js';

/** How a call ended on the server. */
export type Answer = { readonly bytes: Buffer } | { readonly code: status; readonly details: string };

/** The server's end of a stream. */
export interface ServerEnd {
  /** A message of the client's. */
  receive(bytes: Buffer): void;
  /** The client has left, or the connection is gone. */
  leave(): void;
}

/** What a stream's client is told. */
export interface ClientEnd {
  data(bytes: Buffer): void;
  end(code: status, details: string): void;
}

type Unary = (bytes: Buffer) => Answer;
type Bidi = (client: ClientEnd) => ServerEnd;

export class SimServer {
  readonly process: SimProcess;
  #member: Member;
  #unary = new Map<string, Unary>();
  #bidi = new Map<string, Bidi>();

  constructor(process: SimProcess) {
    this.process = process;
    this.#member = this.#make();
  }

  /** What it is made of, to be looked into. */
  get member(): Member {
    return this.#member;
  }

  /** Answers a call, at once. */
  answer(path: string, bytes: Buffer): Answer {
    const handle = this.#unary.get(path);
    const [, service = '', method = ''] = path.split('/');
    if (handle !== undefined) return handle(bytes);
    return { code: status.UNIMPLEMENTED, details: `unknown method ${method} for service ${service}` };
  }

  /** Opens a stream. Undefined: it knows no such call. */
  open(path: string, client: ClientEnd): ServerEnd | undefined {
    return this.#bidi.get(path)?.(client);
  }

  /** Ends all streams, and comes back: with all it had, its leases extended as by a new leader, or with nothing. */
  restart(kept: 'all' | 'nothing'): void {
    this.#member.calls.endAll();
    if (kept === 'nothing') {
      this.#member.lessor.close();
      this.#member = this.#make();
      return;
    }
    const { lessor, table } = this.#member;
    for (const { id } of table.byDeadline()) lessor.renew(id);
  }

  close(): void {
    this.#member.lessor.close();
  }

  #make(): Member {
    this.#unary = new Map();
    this.#bidi = new Map();
    const rpcs: Rpcs = {
      bidi: (rpc, handle) => void this.#bidi.set(rpc.path, (client) => openStream(rpc, handle, client)),
      unary: (rpc, handle) =>
        void this.#unary.set(rpc.path, (bytes) => {
          try {
            const reply = handle(rpc.requestDeserialize(bytes), bytes.length);
            return { bytes: rpc.responseSerialize(reply) };
          } catch (error) {
            return statusOf(error);
          }
        }),
    };
    const { clock } = this.process;
    return makeMember(rpcs, { clock, endpoint: 'sim://0', name: 'sim', watchProgressIntervalMs: 600_000 });
  }
}

/** What the handlers of the embedded server use of a gRPC stream. */
class SimCall extends EventEmitter {
  readonly #write: (response: unknown) => void;
  readonly #end: () => void;

  constructor(write: (response: unknown) => void, end: () => void) {
    super();
    this.#write = write;
    this.#end = end;
  }

  write(response: unknown): boolean {
    this.#write(response);
    return true;
  }

  pause(): void {
    // It never asks anybody to wait.
  }

  resume(): void {
    // See above.
  }

  end(): void {
    this.#end();
  }
}

function openStream<Request, Response>(
  rpc: Rpc<never, Request, Response, unknown>,
  handle: (call: ServerDuplexStream<Request, Response>) => void,
  client: ClientEnd,
): ServerEnd {
  let over = false;
  const end = (code: status, details: string): void => {
    if (over) return;
    over = true;
    client.end(code, details);
    call.emit('close');
  };
  const call = new SimCall(
    (response) => {
      if (!over) client.data(rpc.responseSerialize(response as Response));
    },
    () => end(status.OK, ''),
  );
  call.on('error', ({ code, details }: { code: status; details: string }) => end(code, details));
  handle(call as unknown as ServerDuplexStream<Request, Response>);
  return {
    leave: () => {
      if (over) return;
      over = true;
      call.emit('cancelled');
      call.emit('close');
    },
    receive: (bytes) => {
      if (!over) call.emit('data', rpc.requestDeserialize(bytes));
    },
  };
}
