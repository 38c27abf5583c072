/** etcd in the simulated world: the embedded server's store, lessor and watches, behind simulated connections. */
import { EventEmitter } from 'node:events';

import { type ServerDuplexStream, status } from '@grpc/grpc-js';

import { type Member, makeMember } from '../../embedded/member.js';
import { type Rpcs, statusOf } from '../../embedded/rpc/rpc-server.js';
import type { Rpc } from '../../proto/rpc.js';
import type { KeyVersion } from '../../embedded/store/key-history.js';
import type { CommitListener } from '../../embedded/store/store.js';
import { singleKey } from '../../embedded/store/key-range.js';
import { carrierOf } from './carried.js';
import { Quorum } from './quorum.js';
import type { Random } from './random.js';
import { SimProcess } from './sim-process.js';
import type { Timeline } from './timeline.js';
import { TokenGate } from './token-gate.js';

/** How a call ended on the server. */
export type Answer = { readonly reply: unknown } | { readonly code: status; readonly details: string };

/** The server's end of a stream. */
export interface ServerEnd {
  /** A message of the client's. */
  receive(message: unknown): void;
  /** The client has left, or the connection is gone. */
  leave(): void;
}

/** What a stream's client is told. */
export interface ClientEnd {
  data(message: unknown): void;
  end(code: status, details: string): void;
}

type Unary = (request: unknown, bytes: number) => Answer;
type Bidi = (client: ClientEnd) => ServerEnd;

interface Commit {
  readonly revision: bigint;
  readonly changes: readonly KeyVersion[];
}

/** With what it comes back: all it had, nothing, or what it had at a revision, as from a snapshot. */
export type Kept = 'all' | 'nothing' | { readonly revision: bigint };

export class SimServer {
  readonly quorum: Quorum;
  readonly gate: TokenGate;
  /** Has the time of leases; it stands still while there is no leader. */
  readonly #leader: SimProcess;
  readonly #listeners: CommitListener[] = [];
  #commits: Commit[] = [];
  /** Of each lease that ever had a key. */
  readonly #ttlSeconds = new Map<bigint, bigint>();
  #isReplaying = false;
  #member: Member;
  #unary = new Map<string, Unary>();
  #bidi = new Map<string, Bidi>();

  constructor(timeline: Timeline, random: Random) {
    this.#leader = new SimProcess('etcd', timeline);
    this.gate = new TokenGate(random.fork());
    this.quorum = new Quorum(timeline, random, {
      elected: () => {
        this.#member.lessor.promote();
        this.#leader.thaw();
      },
      lost: () => this.#leader.freeze(),
    });
    this.#member = this.#make();
  }

  /** Calls `listener` at every commit, also of what comes after a restart. */
  onCommit(listener: CommitListener): void {
    this.#listeners.push(listener);
  }

  /** What it is made of, to be looked into. */
  get member(): Member {
    return this.#member;
  }

  /** Answers a call, at once. */
  answer(path: string, request: unknown, bytes = 0): Answer {
    const handle = this.#unary.get(path);
    if (handle !== undefined) return handle(request, bytes);
    const [, service = '', method = ''] = path.split('/');
    return { code: status.UNIMPLEMENTED, details: `unknown method ${method} for service ${service}` };
  }

  /** Opens a stream. Undefined: it knows no such call. */
  open(path: string, client: ClientEnd): ServerEnd | undefined {
    return this.#bidi.get(path)?.(client);
  }

  /** Ends all streams, and comes back; its leases have their full time again, as from a new leader. */
  restart(kept: Kept): void {
    const before = this.#member;
    before.calls.endAll();
    if (kept !== 'all') {
      before.lessor.close();
      const commits = this.#commits;
      this.#commits = [];
      // A cluster that is made from a snapshot may take over the id of the one before, or not.
      const clusterId = kept === 'nothing' ? undefined : before.headers.clusterId;
      this.#member = this.#make(clusterId);
      if (kept !== 'nothing') this.#replay(commits, kept.revision);
    }
    this.#member.lessor.promote();
  }

  /** Writes again what had been written up to a revision. */
  #replay(commits: readonly Commit[], revision: bigint): void {
    const { lessor, store } = this.#member;
    const past = commits.filter((commit) => commit.revision <= revision);
    for (const lease of new Set(past.flatMap(({ changes }) => changes.map(({ lease: id }) => id)))) {
      const ttlSeconds = this.#ttlSeconds.get(lease);
      if (ttlSeconds !== undefined) lessor.grant(lease, ttlSeconds);
    }
    this.#isReplaying = true;
    for (const { changes } of past)
      store.write((batch) => {
        for (const { deleted, key, lease, text, value } of changes)
          if (deleted) batch.delete(singleKey(text));
          else batch.put(key, value, lease);
      });
    this.#isReplaying = false;
  }

  close(): void {
    this.#member.lessor.close();
  }

  #make(clusterId?: bigint): Member {
    this.#unary = new Map();
    this.#bidi = new Map();
    const rpcs: Rpcs = {
      bidi: (rpc, handle) => void this.#bidi.set(rpc.path, (client) => openStream(rpc, handle, client)),
      // What answers in parts is not played: its callers can do without.
      parts: () => undefined,
      unary: (rpc, handle) =>
        void this.#unary.set(rpc.path, (request, bytes) => {
          try {
            const reply = handle(request as ReturnType<typeof rpc.requestDeserialize>, bytes);
            return { reply: carrierOf(rpc.path).response(reply) };
          } catch (error) {
            return statusOf(error);
          }
        }),
    };
    const { clock } = this.#leader;
    const member = makeMember(rpcs, {
      clock,
      clusterId,
      endpoint: 'sim://0',
      leaseIds: 'random',
      name: 'sim',
      watchProgressIntervalMs: 600_000,
    });
    member.store.onCommit((revision, changes) => {
      this.#commits.push({ changes, revision });
      for (const { lease } of changes) {
        const found = lease === 0n ? undefined : member.table.get(lease);
        if (found !== undefined) this.#ttlSeconds.set(lease, found.ttlSeconds);
      }
      if (!this.#isReplaying) for (const listener of this.#listeners) listener(revision, changes);
    });
    return member;
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
      if (!over) client.data(carrierOf(rpc.path).response(response));
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
    receive: (message) => {
      if (!over) call.emit('data', message);
    },
  };
}
