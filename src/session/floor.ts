/**
 * The floor of a session: what keeps a request that comes late from being carried out.
 *
 * A request that is sent again, or held up on its way, may arrive when all that it asked for was done and undone. If it
 * makes a key on the condition that the key is missing, it would make it then: "missing" is a state that returns. So each
 * attempt to make such keys has a number, greater than those before, and compares it with a key of the session's own,
 * `.conclave/floor/<lease>`, bound to its lease:
 *
 *     <life>.<number>      all attempts up to this number, and all of earlier lives on the lease, are over
 *
 * An attempt is carried out only while the floor is below its number. Once it is over, the floor is raised past it: from
 * then on nothing of it can come, whatever is still under way. In the same transaction what a late copy made before that
 * is removed, by the mark that only that attempt wrote. One transaction, about a second later, does so for all attempts
 * that were over by then; a session that does nothing costs nothing.
 *
 * An attempt whose request may still be sent is not passed. A life that resumes the lease begins by raising the floor past
 * all of the life before, which hears of it when it raises the floor itself.
 *
 * A user who may not write that key (`PERMISSION_DENIED`) has no floor: what comes late is then only looked for, three
 * times in ten seconds.
 */
import { hasCode } from '../errors/conclave-error.js';
import type { Client } from '../etcd/client.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { OpResult, TxnResult } from '../etcd/kv/kv-results.js';
import { op, type TxnSpec } from '../etcd/kv/op.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { CallOptions } from '../etcd/transport/call.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import { sleep } from '../util/abort.js';
import { SESSION_KEYS } from '../util/key-space.js';

/** How long after an attempt the floor is raised: one transaction then does for all that have ended meanwhile. */
const RAISE_AFTER_MS = 1000;
/** How often, and when, it is looked for what comes late where there is no floor. */
const LOOKS = { everyMs: 4000, times: 3 } as const;
/** So many attempts that are over are remembered while the floor cannot be raised: of older ones, what comes late stays. */
const MOST_ENDED = 20_000;
/** So many operations in one transaction: etcd takes 128, those of nested transactions and of the one around them together. */
const MOST_OPS = 90;

/** There is no floor: its key may not be written. */
const DENIED = 'denied';

/** What the floor is for: part of a session. */
interface Owner {
  readonly client: Client;
  readonly leaseId: bigint;
  readonly signal: AbortSignal;
  leaseIsGone(): void;
  takenOver(key: string): void;
  throwIfEnded(): void;
}

/** What a life on a lease begins with. */
export interface Life {
  /** What the floor's key holds; denied: it may not be written. */
  readonly value: string;
  /** The create revision of the key. */
  readonly madeAt: bigint;
}

/** The number of one attempt. */
export interface AttemptNumber {
  readonly number: number;
  /** What the attempt's transaction has to compare. */
  readonly guards: readonly Compare[];
  /**
   * Whether it was not by the floor that the attempt was refused. False: somebody had removed the floor's key, which is
   * there again, so it may be made anew, with another number. Rejects when the session has ended, as calls do, and with
   * the signal's reason.
   */
  readonly isIntact: (signal: AbortSignal) => Promise<boolean>;
  /** Its request will not be sent any more. */
  readonly settled: () => void;
}

/** What an attempt may have left when it is over. */
export interface Leftovers {
  /** Transactions that remove what this attempt wrote, and nothing else. */
  readonly removals: readonly TxnSpec[];
  /** What to do when something was there to be removed. Safe to repeat. */
  readonly tidy?: (() => Promise<void>) | undefined;
}

/** An attempt that is over. */
interface Ended {
  readonly number: number;
  readonly leftovers: () => Leftovers;
  looks: number;
}

export class Floor {
  readonly #owner: Owner;
  readonly #key: string;
  /** As we last knew the key. */
  #life: Life = { madeAt: 0n, value: DENIED };
  #last = 0;
  /** The numbers of attempts that may still be sent, in their order. */
  readonly #asking = new Set<number>();
  #ended: Ended[] = [];
  #raising = false;

  constructor(owner: Owner) {
    this.#owner = owner;
    this.#key = keyOf(owner.leaseId);
  }

  /** `life` is what `beginLife` said. */
  begin(life: Life): void {
    this.#life = life;
  }

  /** The number of a new attempt. */
  next(): AttemptNumber {
    this.#last += 1;
    const number = this.#last;
    const { madeAt, value } = this.#life;
    this.#asking.add(number);
    return {
      guards: value === DENIED ? [] : [compare.value(this.#key, '<', text(lifeOf(value), number))],
      isIntact: (signal) => this.#isIntact(madeAt, signal),
      number,
      settled: () => void this.#asking.delete(number),
    };
  }

  /** The attempt is over: what it has left, or a late copy of it makes, is nobody's. Resolves nothing: it goes on by itself. */
  end(number: number, leftovers: () => Leftovers): void {
    if (this.#owner.signal.aborted) return; // All goes with the lease.
    this.#ended.push({ leftovers, looks: 0, number });
    if (this.#ended.length > MOST_ENDED) this.#ended.shift();
    if (this.#raising) return;
    this.#raising = true;
    this.#raiseUntilDone().catch(() => undefined); // The session has ended, and the keys with it.
  }

  get #isDenied(): boolean {
    return this.#life.value === DENIED;
  }

  /** Whether the key is the one that was there, `madeAt`, when an attempt got its number. */
  async #isIntact(madeAt: bigint, signal: AbortSignal): Promise<boolean> {
    if (this.#isDenied) return true;
    const kv = await this.#owner.client.kv.get(this.#key, { signal });
    await this.#mustBeOurs(kv, signal);
    return kv?.createRevision === madeAt;
  }

  async #raiseUntilDone(): Promise<void> {
    const { client, signal } = this.#owner;
    try {
      for (let isRefused = false; this.#ended.length > 0;) {
        await sleep(client.clock, this.#isDenied || isRefused ? LOOKS.everyMs : RAISE_AFTER_MS, signal);
        isRefused = !(await this.#raise());
      }
    } finally {
      this.#raising = false; // In the turn in which nothing was left to do: what ends next begins anew.
    }
  }

  /** Does what there is to do for all attempts that are over and cannot be sent any more. False: etcd refuses it for now. */
  async #raise(): Promise<boolean> {
    const passed = this.#passed();
    const ready = this.#ended.filter(({ number }) => number <= passed);
    this.#ended = this.#ended.filter(({ number }) => number > passed);
    try {
      while (ready.length > 0) await this.#sweep(passed, ready);
      return true;
    } catch {
      // There may be no space, or no permission any more.
      this.#owner.signal.throwIfAborted();
      this.#ended.push(...ready);
      return false;
    }
  }

  /** Judges what the key holds: ours, maybe by a request of ours whose answer is lost. Makes it again if it is gone. */
  async #mustBeOurs(kv: KeyValue | undefined, signal: AbortSignal): Promise<void> {
    if (kv === undefined) return this.#makeAgain(signal);
    const value = kv.string();
    if (lifeOf(value) === lifeOf(this.#life.value)) this.#life = { madeAt: kv.createRevision, value };
    else this.#owner.takenOver(this.#key);
    this.#owner.throwIfEnded();
  }

  async #makeAgain(signal: AbortSignal): Promise<void> {
    const { client, leaseId } = this.#owner;
    // Past all that was sent: what is refused now for want of the key must not be carried out when it is there again.
    const value = text(lifeOf(this.#life.value), this.#last);
    const spec = { if: [compare.missing(this.#key)], then: [op.put(this.#key, value, { leaseId })] };
    try {
      const { revision, succeeded } = await client.kv.txn(spec, { idempotent: true, signal });
      if (succeeded) this.#life = { madeAt: revision, value };
    } catch (error) {
      if (hasCode(error, 'LEASE_NOT_FOUND')) this.#owner.leaseIsGone();
      this.#owner.throwIfEnded();
      throw error;
    }
  }

  /** Up to which number no attempt can be sent any more. */
  #passed(): number {
    const [first] = this.#asking;
    return first === undefined ? this.#last : first - 1;
  }

  /** Raises the floor, if it is lower, and removes what the first of the attempts have left; takes them out of `ready`. */
  async #sweep(passed: number, ready: Ended[]): Promise<void> {
    const batch = firstBatch(ready);
    const removals = batch.flatMap(([, { removals }]) => removals.map((each) => op.txn(each)));
    const results = await this.#removed(passed, removals);
    ready.splice(0, batch.length);
    let next = 0;
    for (const [ended, { removals, tidy }] of batch) {
      const done = results?.slice(next, (next += removals.length));
      const mayHaveRemoved = done?.some((each) => each.type === 'txn' && each.succeeded) ?? true;
      if (tidy !== undefined && mayHaveRemoved)
        await untilAnswered(this.#owner.client.clock, this.#owner.signal, tidy);
      if (this.#isDenied && ++ended.looks < LOOKS.times) this.#ended.push(ended);
    }
  }

  /** What came of the removals; undefined: they were done, and the answer is lost. */
  async #removed(
    passed: number,
    removals: readonly ReturnType<typeof op.txn>[],
  ): Promise<readonly OpResult[] | undefined> {
    const { client, leaseId, signal } = this.#owner;
    const run = (spec: TxnSpec): Promise<TxnResult> =>
      untilAnswered(client.clock, signal, () => client.kv.txn(spec, { idempotent: true }));
    for (;;) {
      const { madeAt, value } = this.#life;
      const raised = text(lifeOf(value), passed);
      if (this.#isDenied || raised <= value) return (await run({ then: removals })).responses;
      const { responses, succeeded } = await run({
        else: [op.get(this.#key)],
        if: [compare.value(this.#key, '=', value)],
        then: [op.put(this.#key, raised, { leaseId }), ...removals],
      });
      const kv = succeeded ? undefined : firstKv(responses);
      if (succeeded || kv?.string() === raised) {
        this.#life = { madeAt: kv?.createRevision ?? madeAt, value: raised };
        return succeeded ? responses.slice(1) : undefined;
      }
      await this.#mustBeOurs(kv, signal);
    }
  }
}

/**
 * Makes the floor of a lease, or raises it past all that earlier lives on it have sent. Resolves with what this life's
 * `Floor` needs. Rejects as calls do.
 */
export async function beginLife(
  client: Client,
  { leaseId, isNew }: { readonly leaseId: bigint; readonly isNew: boolean },
  limits: CallOptions,
): Promise<Life> {
  const key = keyOf(leaseId);
  try {
    for (;;) {
      const kv = isNew ? undefined : await client.kv.get(key, limits);
      const value = text(kv === undefined ? 1 : lifeOf(kv.string()) + 1, 0);
      const same = kv === undefined ? compare.missing(key) : compare.modRevision(key, '=', kv.modRevision);
      const spec = { else: [op.get(key)], if: [same], then: [op.put(key, value, { leaseId })] };
      const { responses, revision, succeeded } = await client.kv.txn(spec, { ...limits, idempotent: true });
      if (succeeded) return { madeAt: kv?.createRevision ?? revision, value };
      // Of a new lease, nobody but a first copy of this request can have made it.
      const made = firstKv(responses);
      if (isNew && made?.string() === value) return { madeAt: made.createRevision, value };
    }
  } catch (error) {
    if (hasCode(error, 'PERMISSION_DENIED')) return { madeAt: 0n, value: DENIED };
    throw error;
  }
}

/** As many of `ready` as fit into one transaction, with what they left. */
function firstBatch(ready: readonly Ended[]): (readonly [Ended, Leftovers])[] {
  const batch: (readonly [Ended, Leftovers])[] = [];
  let ops = 0;
  for (const ended of ready) {
    const left = ended.leftovers();
    for (const { if: compares = [], then = [] } of left.removals)
      ops += 1 + Math.max(compares.length, then.length);
    if (ops > MOST_OPS && batch.length > 0) break;
    batch.push([ended, left]);
  }
  return batch;
}

function keyOf(leaseId: bigint): string {
  return `${SESSION_KEYS}floor/${leaseHex(leaseId)}`;
}

/** As etcd compares values, by their bytes: of one width, so that the greater number is the greater value. */
function text(life: number, number: number): string {
  return `${String(life).padStart(8, '0')}.${String(number).padStart(16, '0')}`;
}

function lifeOf(value: string): number {
  return Number(value.split('.')[0]);
}

function firstKv(responses: readonly OpResult[]): KeyValue | undefined {
  const [own] = responses;
  return own?.type === 'get' ? own.kvs[0] : undefined;
}
