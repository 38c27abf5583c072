// A program that lives for long: everything that `connect()` gives, used over and over.
import { setTimeout as sleep } from 'node:timers/promises';

import { type Conclave, hasCode, op, stm } from 'conclave';

/** What refuses for a time, or tells of a loss; a program goes on after it. */
const PASSES = [
  'ALREADY_HELD',
  'BROKEN',
  'COMPACTED',
  'DEADLINE_EXCEEDED',
  'HISTORY_REVERTED',
  'LEASE_NOT_FOUND',
  'MISMATCH',
  'NOT_ETCD',
  'NOT_HELD',
  'NO_LEADER',
  'SESSION_LOST',
  'TICKET_LOST',
  'TIMEOUT',
  'UNAVAILABLE',
  'UNKNOWN_OUTCOME',
] as const;

/** How long a part waits for its turn before it asks anew. */
const limits = { timeoutMs: 20_000 };

export class Fleet {
  readonly #conclave: Conclave;
  readonly #ending = new AbortController();
  readonly #beats = new Map<string, number>();
  readonly #parts: Promise<void>[] = [];
  /** The last that was refused to each part. */
  readonly #refusals = new Map<string, string>();
  /** What must not have happened. */
  readonly findings: string[] = [];

  constructor(conclave: Conclave) {
    this.#conclave = conclave;
    for (const [name, part] of Object.entries(this.#loops())) {
      this.#beats.set(name, 0);
      this.#parts.push(this.#loop(name, part));
    }
    for (const [name, part] of Object.entries(this.#lasting())) {
      this.#beats.set(name, 0);
      const { signal } = this.#ending;
      this.#parts.push(
        part().then(
          () => this.#endedBy(name, 'it ended'),
          (error: unknown) => (signal.aborted ? undefined : this.#endedBy(name, error)),
        ),
      );
    }
  }

  /** The parts that have not done anything since all of them were told to show it. */
  silentSince(beats: ReadonlyMap<string, number>): string[] {
    return [...this.#beats].filter(([name, count]) => count === beats.get(name)).map(([name]) => name);
  }

  /** How often each part has done what it does. */
  get beats(): ReadonlyMap<string, number> {
    return new Map(this.#beats);
  }

  /** What is to be known of parts that do nothing: who is in the lines, and what the last refusals were. */
  async report(): Promise<string> {
    const { client, session } = this.#conclave;
    const { kvs } = await client.kv.range({ prefix: 'life/' });
    const keys = kvs
      .filter(({ leaseId }) => leaseId !== undefined)
      .map(({ createRevision, key, leaseId }) => {
        return `${key} (lease ${String(leaseId?.toString(16))}, created ${String(createRevision)})`;
      });
    const refusals = [...this.#refusals].map(([name, text]) => `${name}: ${text}`);
    return [`session ${session.leaseId.toString(16)} ${session.state}`, ...keys, ...refusals].join('\n  ');
  }

  /** Stops all parts; what lasts ends with the Conclave. */
  async end(): Promise<void> {
    this.#ending.abort(new Error('the end'));
    await this.#conclave.close();
    await Promise.all(this.#parts);
  }

  /** Parts that are done over and over. Each resolves when it was done once. */
  #loops(): Readonly<Record<string, (round: number) => Promise<unknown>>> {
    const conclave = this.#conclave;
    const mutex = conclave.mutex('life/mutex');
    const many = conclave.multiMutex(['life/a', 'life/b', 'life/c']);
    const rw = conclave.rwLock('life/rw');
    const semaphore = conclave.semaphore('life/semaphore', { limit: 2 });
    const locks = conclave.locks('life/locks');
    const queue = conclave.queue<number>('life/queue');
    const barrier = conclave.barrier('life/barrier');
    const parties = [1, 2].map(() => conclave.doubleBarrier('life/double', { count: 2 }));
    return {
      barrier: async () => {
        await (await barrier.hold(limits)).release();
        await barrier.wait(limits);
      },
      doubleBarrier: async () => {
        const entered = await Promise.allSettled(parties.map((party) => party.enter(limits)));
        const left = await Promise.allSettled(parties.map((party) => party.leave(limits)));
        for (const each of [...entered, ...left]) if (each.status === 'rejected') throw each.reason;
      },
      kv: async (round) => {
        await conclave.client.kv.put('life/kv', String(round));
        await conclave.client.kv.get('life/kv');
      },
      latch: async (round) => {
        const latch = conclave.latch(`life/latch-${round % 3}`, { count: 2 });
        await Promise.all([latch.countDown(1, limits), latch.countDown(1, limits), latch.wait(limits)]);
        await latch.delete();
      },
      locks: () => locks.request('x', limits, (lock) => lock.txn({ then: [op.put('life/x', '')] })),
      multiMutex: () => many.run((lock) => lock.txn({ then: [op.put('life/many', '')] }), limits),
      mutex: () =>
        Promise.all(
          [1, 2, 3].map(() => mutex.run((lock) => lock.txn({ then: [op.put('life/held', '')] }), limits)),
        ),
      push: (round) => queue.push(round, { delayMs: round % 5 === 0 ? 50 : 0 }),
      rwLock: () => Promise.all([rw.read(({ held }) => held, limits), rw.write(({ held }) => held, limits)]),
      semaphore: () => Promise.all([1, 2, 3].map(() => semaphore.run(({ held }) => held, limits))),
      stm: () =>
        stm(conclave.client, async (tx) => {
          tx.put('life/stm', String(Number((await tx.get('life/stm'))?.string() ?? 0) + 1));
        }),
    };
  }

  /** Parts that go on by themselves for as long as the program lives. */
  #lasting(): Readonly<Record<string, () => Promise<unknown>>> {
    const conclave = this.#conclave;
    const election = conclave.election('life/election');
    const { signal } = this.#ending;
    return {
      leader: () =>
        election.run('leader', async (leadership, stop) => {
          for (let at = 0; !stop.aborted; at++) {
            await leadership.proclaim(String(at)).catch((error: unknown) => this.#judge('leader', error));
            if (leadership.held) this.#beat('leader');
            await sleep(50);
          }
        }),
      observer: async () => {
        for await (const leader of election.observe({ signal }))
          if (leader !== undefined) this.#beat('observer');
      },
      watch: async () => {
        const options = { onCompacted: 'relist', signal } as const;
        for await (const { events } of conclave.client.watch({ prefix: 'life/kv' }, options))
          if (events.length > 0) this.#beat('watch');
      },
      worker: async () => {
        const onError = (error: unknown): void => this.#judge('worker', error);
        const handler = (): void => this.#beat('worker');
        await conclave.queue<number>('life/queue').process(handler, { concurrency: 4, onError }).finished;
      },
    };
  }

  async #loop(name: string, part: (round: number) => Promise<unknown>): Promise<void> {
    for (let round = 0; !this.#ending.signal.aborted; round++) {
      try {
        await part(round);
        this.#beat(name);
      } catch (error) {
        this.#judge(name, error);
      }
      await sleep(20 + Math.random() * 20);
    }
  }

  #beat(name: string): void {
    this.#beats.set(name, (this.#beats.get(name) ?? 0) + 1);
  }

  #judge(name: string, error: unknown): void {
    this.#refusals.set(name, `${new Date().toISOString()} ${String(error)}`);
    if (this.#ending.signal.aborted || hasCode(error, ...PASSES)) return;
    this.findings.push(`${name}: ${String(error instanceof Error ? error.stack : error)}`);
  }

  #endedBy(name: string, why: unknown): void {
    if (!this.#ending.signal.aborted) this.findings.push(`${name} does not go on: ${String(why)}`);
  }
}
