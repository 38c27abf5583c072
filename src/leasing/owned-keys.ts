/**
 * The keys that a Leasing owns: acquired, answered from memory, and given back.
 *
 * An ownership is known by its create revision alone, which never comes again. It is given up here, so that nothing is
 * answered from it, before the request that gives it back is sent; and while one of a key is on its way back, none of the
 * same key is acquired. What a late copy of an acquisition makes is given back as soon as the watch tells of it.
 */
import { hasCode } from '../errors/conclave-error.js';
import { compare } from '../etcd/kv/compare.js';
import { op, type TxnSpec } from '../etcd/kv/op.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';
import type { CallOptions } from '../etcd/transport/call.js';
import type { Client } from '../etcd/client.js';
import type { Session } from '../session/session.js';
import { sleep } from '../util/abort.js';
import { backoffMs } from '../util/backoff.js';
import { hasMark } from './marks.js';
import { OwnedKey, type Ownership } from './owned-key.js';
import { isAskedFor, keyBytes, type KeyId, type OwnershipKeys } from './ownership-keys.js';

/** What owned keys stand on. */
export interface OwnedKeysBase {
  readonly client: Client;
  readonly keys: OwnershipKeys;
  readonly mark: string;
  readonly maxKeys: number;
  /** How long a key that somebody else has, or wants, is not acquired. */
  readonly pauseMs: number;
  /** Ends all tries to give back. */
  readonly over: AbortSignal;
}

/** What the watch tells while a key is being acquired. */
interface Acquiring {
  readonly done: Promise<void>;
  /** The create revision of the last ownership key of ours. */
  ours: bigint;
  /** The create revision of the last one that somebody has asked for. */
  asked: bigint;
  /** At which revision ours was deleted, or somebody else's was there. */
  goneAt: bigint;
  /** It was not told of everything. */
  isInDoubt: boolean;
}

const PAUSE = { baseMs: 20, maxMs: 2000 } as const;

export class OwnedKeys {
  readonly #base: OwnedKeysBase;
  /** The longest not used first. */
  readonly #owned = new Map<KeyId, OwnedKey>();
  readonly #acquiring = new Map<KeyId, Acquiring>();
  /** Those on their way back, by their create revisions. */
  readonly #givingBack = new Map<KeyId, Map<bigint, Promise<void>>>();
  /** Until when a key is not acquired; the earliest first. */
  readonly #pausedUntil = new Map<KeyId, number>();
  /** The writes of this process that are under way. */
  readonly #writing = new Map<KeyId, number>();
  #isClosed = false;

  constructor(base: OwnedKeysBase) {
    this.#base = base;
  }

  /** How many it owns. */
  get size(): number {
    return this.#owned.size;
  }

  /** The key, if it is ours and its session lives. */
  get(id: KeyId): OwnedKey | undefined {
    const owned = this.#owned.get(id);
    if (owned === undefined || owned.session.alive) return owned;
    this.giveBack(owned);
    return undefined;
  }

  /** It was used. */
  touch(owned: OwnedKey): void {
    this.#owned.delete(owned.id);
    this.#owned.set(owned.id, owned);
  }

  /** Whether it may be acquired now. */
  mayAcquire(id: KeyId): boolean {
    const until = this.#pausedUntil.get(id);
    const isPaused = until !== undefined && this.#base.client.clock.now() < until;
    const isBusy = [this.#owned, this.#acquiring, this.#givingBack, this.#writing].some((each) =>
      each.has(id),
    );
    return !(isPaused || isBusy || this.#isClosed);
  }

  /** Settles once those of the keys are acquired that are being acquired; undefined: none is. */
  acquisitions(ids: Iterable<KeyId> = this.#acquiring.keys()): Promise<unknown> | undefined {
    const busy = [...ids].flatMap((id) => this.#acquiring.get(id)?.done ?? []);
    return busy.length === 0 ? undefined : Promise.all(busy);
  }

  /** A write of this process to the keys begins. Returns what to call at its end. */
  writing(ids: readonly KeyId[]): () => void {
    for (const id of ids) this.#writing.set(id, (this.#writing.get(id) ?? 0) + 1);
    return () => {
      for (const id of ids) {
        const left = (this.#writing.get(id) ?? 1) - 1;
        if (left === 0) this.#writing.delete(id);
        else this.#writing.set(id, left);
      }
    };
  }

  /** Reads the key, and makes it ours if nobody owns it and it is on no lease. Rejects as a guarded `txn`. */
  acquire(id: KeyId, session: Session, limits: CallOptions): Promise<KeyValue | undefined> {
    const acquiring = { asked: 0n, goneAt: 0n, isInDoubt: false, ours: 0n };
    const reading = this.#acquire({ acquiring, id, limits, session });
    const done = reading.then(
      () => undefined,
      () => undefined,
    );
    this.#acquiring.set(id, Object.assign(acquiring, { done }));
    return reading;
  }

  async #acquire(asked: {
    readonly acquiring: Omit<Acquiring, 'done'>;
    readonly id: KeyId;
    readonly limits: CallOptions;
    readonly session: Session;
  }): Promise<KeyValue | undefined> {
    const { acquiring, id, limits, session } = asked;
    const { keys, mark } = this.#base;
    const [key, ownKey] = [keyBytes(id), keys.of(id)];
    const { guards, isIntact, number, settled } = session.floor.next();
    const attempt = { attempt: number, id, session };
    let owned: OwnedKey | undefined;
    try {
      const { responses, revision, succeeded } = await session.client.kv.txn(
        {
          else: [op.get(key), op.get(ownKey)],
          if: [...guards, compare.missing(ownKey), compare.lease(key, '=', 0n)],
          then: [op.get(key), op.put(ownKey, mark, { leaseId: session.leaseId })],
        },
        { ...limits, idempotent: true },
      );
      const [kv] = responses[0].kvs;
      if (succeeded) owned = new OwnedKey({ ...attempt, createRevision: revision }, { kv, revision });
      else {
        const [own] = responses[1].kvs;
        const isOurs = own?.leaseId === session.leaseId && own.value.toString() === mark;
        if (own !== undefined && isOurs && kv?.leaseId === undefined) {
          // The first copy of the request, of which no answer has come.
          owned = new OwnedKey({ ...attempt, createRevision: own.createRevision }, { kv, revision });
          if (isAskedFor(own)) acquiring.asked = own.createRevision;
        } else this.pause(id);
        if (own === undefined && kv?.leaseId === undefined) isIntact(session.signal).catch(() => undefined);
      }
      return kv;
    } catch (error) {
      if (hasCode(error, 'LEASE_NOT_FOUND')) session.leaseIsGone();
      this.pause(id);
      throw error;
    } finally {
      settled();
      this.#acquiring.delete(id);
      this.#acquired(owned, acquiring, attempt);
    }
  }

  /** What became of an acquisition, by its answer and by what the watch has told meanwhile. */
  #acquired(
    owned: OwnedKey | undefined,
    { asked, goneAt, isInDoubt, ours }: Omit<Acquiring, 'done'>,
    attempt: Omit<Ownership, 'createRevision'>,
  ): void {
    const createRevision = owned?.createRevision ?? ours;
    const isThere = createRevision > 0n && goneAt <= createRevision;
    const isWanted = asked === createRevision || isInDoubt || this.#isClosed;
    if (owned !== undefined && isThere && !isWanted) {
      this.#owned.set(owned.id, owned);
      const [oldest] = this.#owned.values();
      if (this.#owned.size > this.#base.maxKeys && oldest !== undefined) this.giveBack(oldest);
      return;
    }
    if (isThere) this.giveBack({ ...attempt, createRevision });
    else this.#end(attempt);
  }

  /** It is not ours any more here, and goes back, until that is confirmed. */
  giveBack(ownership: Ownership): void {
    const { createRevision, id } = ownership;
    this.forget(ownership);
    const all = this.#givingBack.get(id) ?? new Map<bigint, Promise<void>>();
    if (all.has(createRevision)) return;
    this.#givingBack.set(id, all);
    const done = this.#removed(id, createRevision).then(() => {
      all.delete(createRevision);
      if (all.size === 0) this.#givingBack.delete(id);
    });
    done.catch(() => undefined);
    all.set(createRevision, done);
  }

  /** Its ownership key is gone. */
  forget(ownership: Ownership): void {
    const { createRevision, id } = ownership;
    if (this.#owned.get(id)?.createRevision === createRevision) this.#owned.delete(id);
    this.#end(ownership);
  }

  /** Gives back all. Resolves once that is confirmed. For when nothing is acquired any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.acquisitions();
    this.giveBackAll();
    await Promise.all([...this.#givingBack.values()].flatMap((all) => [...all.values()]));
  }

  /** Gives back all, and what is being acquired once it is. */
  giveBackAll(): void {
    for (const owned of [...this.#owned.values()]) this.giveBack(owned);
    for (const acquiring of this.#acquiring.values()) acquiring.isInDoubt = true;
  }

  /** What the watch tells of an ownership key. `session` is that of the moment. */
  told({ kv, type }: Pick<WatchEvent, 'kv' | 'type'>, session: Session): void {
    const id = this.#base.keys.idFrom(kv);
    const owned = this.#owned.get(id);
    const acquiring = this.#acquiring.get(id);
    if (type === 'delete') {
      if (owned !== undefined && kv.modRevision > owned.createRevision) this.forget(owned);
      if (acquiring !== undefined) acquiring.goneAt = kv.modRevision;
      return;
    }
    const { createRevision } = kv;
    const mark = kv.value.toString();
    const isOurs = mark === this.#base.mark;
    if (isAskedFor(kv)) this.pause(id);
    if (acquiring !== undefined) {
      if (!isOurs) acquiring.goneAt = createRevision;
      else acquiring.ours = createRevision;
      if (isOurs && isAskedFor(kv)) acquiring.asked = createRevision;
    } else if (owned?.createRevision === createRevision) {
      if (isAskedFor(kv)) this.giveBack(owned);
    } else {
      if (owned !== undefined && createRevision > owned.createRevision) this.forget(owned);
      // A late copy has made it, or an earlier life on our lease.
      const isStray = isOurs || (kv.leaseId === session.leaseId && !hasMark(session, mark));
      if (isStray) this.giveBack({ attempt: 0, createRevision, id, session });
    }
  }

  /** Somebody else has the key, or wants it: it is not acquired for a while. */
  pause(id: KeyId): void {
    const now = this.#base.client.clock.now();
    for (const [first, until] of this.#pausedUntil) {
      if (until > now) break;
      this.#pausedUntil.delete(first);
    }
    this.#pausedUntil.delete(id);
    this.#pausedUntil.set(id, now + this.#base.pauseMs);
  }

  /** The attempt is over. What a late copy makes is refused from the next raise of the floor on; before, the watch tells of it. */
  #end({ attempt, id, session }: Omit<Ownership, 'createRevision'>): void {
    if (attempt === 0) return;
    const { keys, mark } = this.#base;
    const removal = (): TxnSpec => ({
      if: [compare.value(keys.of(id), '=', mark)],
      then: [op.delete(keys.of(id))],
    });
    session.floor.end(attempt, () => ({ removals: this.#isClosed ? [removal()] : [] }));
  }

  async #removed(id: KeyId, createRevision: bigint): Promise<void> {
    const { client, keys, over } = this.#base;
    const own = keys.of(id);
    const spec = { if: [compare.createRevision(own, '=', createRevision)], then: [op.delete(own)] };
    for (let tries = 0; ; tries++) {
      try {
        await client.kv.txn(spec, { idempotent: true, signal: over });
        return;
      } catch (error) {
        if (client.closed.aborted) throw error;
        await sleep(client.clock, backoffMs(tries, PAUSE), over);
      }
    }
  }
}
