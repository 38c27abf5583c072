/**
 * A ticket: a lease-bound key `name/<suffix>`. Its create revision is its place in the line and the proof that a later
 * operation is still about this very ticket: everything done to it compares that revision, never the name alone.
 *
 * A session that is resumed on the same lease finds the tickets whose suffix is the lease. It marks such a ticket as its
 * own by a write: to the ticket, or to the ticket's note where the value is the caller's. Whatever an earlier life still
 * sends compares its own mark, and is refused; that life's session is lost once it hears of it.
 */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import { isTransient } from '../errors/transient.js';
import { type Compare, compare } from '../etcd/kv/compare.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { OpResult, TxnResult } from '../etcd/kv/kv.js';
import { leaseHex } from '../etcd/lease/lease.js';
import { type Op, op, type TxnSpec } from '../etcd/kv/op.js';
import { untilAnswered } from '../etcd/transport/until-answered.js';
import type { Session } from '../session/session.js';
import { orAborted } from '../util/abort.js';
import { isHeard } from '../util/channels.js';
import type { Attempt } from './attempt.js';
import { afterRemoval, removalOf } from './give-back.js';
import type { Line } from './line.js';
import { type Follower, type Policy, ticketLost } from './line-audience.js';
import { followKey, lineIfUsed, lineOf } from './lines.js';
import { removalsOf } from './removals.js';
import {
  firstKv,
  keyOf,
  lookAhead,
  markKeyOf,
  markOf,
  noteKeyOf,
  type Taken,
  type TicketRequest,
  writeNote,
} from './take.js';

/** What a write to a ticket is to compare and to do besides. */
interface WriteTerms {
  readonly also: readonly Op[];
  readonly guards: readonly Compare[];
  /** Whether it moves the mark. */
  readonly marks: boolean;
}

/** So many keys ahead at most are counted, for those who listen. */
const MOST_COUNTED = 1000;
/** So often a write that others overtake is tried anew, guarded; then it is sent without, once. */
const MOST_OVERTAKEN = 5;

export class Ticket {
  readonly session: Session;
  readonly name: string;
  readonly key: string;
  readonly createRevision: bigint;
  /** What the key held when it was there before: a ticket of an earlier life on the same lease. */
  readonly found: KeyValue | undefined;
  readonly #request: TicketRequest;
  readonly #attempt: Attempt;
  #firstAt: bigint | undefined;
  #modRevision: bigint;
  /** The revision of the write that made it this life's. */
  #mark: bigint;
  /** Whether a write that moves the mark is under way, or nobody knows what came of it. */
  #unsure = false;
  /** Resolves once all writes so far are settled: each waits for the one before, so that it knows what that one left. */
  #settled: Promise<unknown> = Promise.resolve();
  #left: Promise<void> | undefined;
  #position: number | undefined;

  /** Made by what takes tickets. */
  constructor(request: TicketRequest, taken: Taken, attempt: Attempt) {
    this.#request = request;
    this.#attempt = attempt;
    this.session = request.session;
    this.name = request.name;
    this.key = keyOf(request);
    this.createRevision = taken.createRevision;
    this.found = taken.found;
    this.#firstAt = taken.firstAt;
    this.#modRevision = taken.modRevision;
    this.#mark = taken.mark;
    if (taken.firstAt !== undefined) this.#position = 0;
  }

  /**
   * Gives tickets that were taken together back, in one transaction, as `leave` does. Their suffixes are used once, so
   * deleting the keys can hit no later ticket.
   */
  static leaveAll(tickets: readonly Ticket[]): Promise<void> {
    const [first] = tickets;
    if (first === undefined) return Promise.resolve();
    const keys = tickets.map(({ key }) => key);
    first.#left ??= first.#leave(keys, { then: keys.map((key) => op.delete(key)) });
    return first.#left;
  }

  /** The revision at which it was seen to be admitted when it was taken; undefined: others were ahead, or not looked. */
  get firstAt(): bigint | undefined {
    return this.#firstAt;
  }

  /** How many keys were ahead when the line was first seen, for whoever listens; undefined when nobody looked. */
  get position(): number | undefined {
    return this.#position;
  }

  /** Remembers that it was seen to be admitted. */
  seenFirst(firstAt: bigint): this {
    this.#firstAt = firstAt;
    return this;
  }

  /** The line this ticket stands in, to be used at once. */
  get line(): Line {
    return lineOf(this.session.client, this.#request);
  }

  /** The same if somebody uses it. */
  get lineIfUsed(): Line | undefined {
    return lineIfUsed(this.session.client, this.#request);
  }

  /** Whether the values in its line are the callers' own. */
  get hasNote(): boolean {
    return this.#request.note !== undefined;
  }

  /** Tells what becomes of the key, for as long as it is wanted. Returns how to stop. */
  follow(follower: Pick<Follower, 'changed' | 'gone'>): () => void {
    const { createRevision, key, session } = this;
    return followKey(session.client, this.#request, { ...follower, createRevision, key });
  }

  /** The revision of the last write to the key that we know of. */
  get modRevision(): bigint {
    return this.#modRevision;
  }

  /** The revision of the write that made it ours, or what it is: what `guards` compare. */
  get mark(): bigint {
    return this.#mark;
  }

  /** The compare that holds only while this very ticket is there. */
  get there(): Compare {
    return compare.createRevision(this.key, '=', this.createRevision);
  }

  /** The compares that hold only while this very ticket is there and nobody has made it his since we did. */
  get guards(): Compare[] {
    return [this.there, compare.modRevision(markKeyOf(this.#request), '=', this.#mark)];
  }

  /** What a transaction reads when the guards do not hold, so that `judge` can tell. */
  get looks(): Op[] {
    const keys = this.#request.note === undefined ? [this.key] : [this.key, markKeyOf(this.#request)];
    return keys.map((key) => op.get(key));
  }

  /** The revision of a write to the key that is not known to be ours, as the line has it; undefined: there was none. */
  get touchedAt(): bigint | undefined {
    const kv = this.lineIfUsed?.get(this.key);
    if (this.#unsure || kv?.createRevision !== this.createRevision) return undefined;
    return kv.modRevision > this.#modRevision ? kv.modRevision : undefined;
  }

  /**
   * Resolves once `policy` admits this ticket, with the revision that proves it. Rejects with `TICKET_LOST` when the key
   * was removed, with `SESSION_LOST` when a later life took it over, and with the signal's reason. The ticket stays:
   * leave it.
   */
  async turn(policy: Policy, signal: AbortSignal): Promise<bigint> {
    const isWanted = this.#position === undefined && (isHeard('acquire') || isHeard('campaign'));
    const stopFinding = isWanted ? this.#findPosition() : undefined;
    try {
      const proof = await this.line.turn(this.key, this.createRevision, policy, signal);
      if (this.touchedAt === undefined) return proof;
      await orAborted(this.mustBeOurs(), signal);
      return proof;
    } catch (error) {
      const isThere = this.lineIfUsed?.get(this.key)?.createRevision === this.createRevision;
      // Lost and still there: a later life waits for it in this very process.
      if (hasCode(error, 'TICKET_LOST') && isThere) await orAborted(this.mustBeOurs(), signal);
      throw error;
    } finally {
      stopFinding?.();
    }
  }

  /** The revision that proves that its policy admits it; undefined when it does not. Asks etcd at most once. */
  async admittedAt(signal: AbortSignal): Promise<bigint | undefined> {
    return this.firstAt ?? (await lookAhead(this.#request, this.createRevision, signal));
  }

  /** Counts who is ahead as soon as the line is known as of our own key. Returns how to stop. */
  #findPosition(): () => void {
    const { line } = this;
    const find = (): void => {
      if (!line.live || line.revision < this.createRevision || this.#position !== undefined) return;
      let ahead = 0;
      for (const { createRevision } of line.keys) {
        if (createRevision >= this.createRevision || ahead === MOST_COUNTED) break;
        ahead += 1;
      }
      this.#position = ahead;
    };
    find();
    return line.onChange(find);
  }

  /** Asks etcd whether the ticket is still ours. Rejects with what `judge` says when it is not; goes on asking in an outage. */
  async mustBeOurs(): Promise<void> {
    const { client, signal } = this.session;
    const mark = this.#mark;
    const steps = { else: this.looks, if: this.guards };
    const result = await untilAnswered(client.clock, signal, () => client.kv.txn(steps));
    const loss = result.succeeded ? undefined : await this.lossSince(mark, result.responses);
    if (loss !== undefined) throw loss;
  }

  /**
   * Says why guards made when the mark was `mark` did not hold, as `judge` does; undefined: a write of ours, which was under
   * way, has moved it since.
   */
  async lossSince(mark: bigint, responses: readonly OpResult[]): Promise<ConclaveError | undefined> {
    await this.#settled;
    return this.#mark === mark ? this.judge(responses) : undefined;
  }

  /** Says why the guards do not hold, by what `looks` has read. Ends the session if a later life on its lease has the ticket. */
  judge(responses: readonly OpResult[]): ConclaveError {
    const { leaseId } = this.session;
    const kv = firstKv(responses[0]);
    const mark = this.#request.note === undefined ? kv : firstKv(responses[1]);
    const resumed =
      this.#request.suffix === leaseHex(leaseId) &&
      kv?.createRevision === this.createRevision &&
      [kv, mark].every((each) => each?.leaseId === leaseId) &&
      mark !== undefined &&
      mark.modRevision > this.#mark;
    if (!resumed) return ticketLost(this.key);
    this.session.takenOver(this.key);
    return this.session.reason ?? ticketLost(this.key);
  }

  /**
   * Writes a new value to the key while `guards` hold, by default ours, and does what `also` says with it. Resolves with
   * the write's revision; rejects with `NOT_HELD` when the guards do not hold. Safe when the answer is lost: the guarded
   * write is sent again, and found. Writes to one ticket are made one after the other.
   */
  rewrite(
    value: string | Uint8Array,
    guards: readonly Compare[] = this.guards,
    also: readonly Op[] = [],
  ): Promise<bigint> {
    return this.#write(value, { also, guards, marks: this.#request.note === undefined });
  }

  /**
   * Makes a ticket of an earlier life on this lease ours: marking it makes this life's token greater, and refuses what the
   * earlier life still sends. Rejects with `TICKET_LOST` when it was removed meanwhile, and with the signal's reason.
   */
  async resume(value: string | Uint8Array, signal: AbortSignal): Promise<void> {
    const note = writeNote(this.#request);
    // Without one of ours, what an election may have left is gone, and with it that life's mark.
    const also = note.length > 0 ? note : [op.delete(noteKeyOf(this.#request))];
    try {
      await orAborted(this.#write(value, { also, guards: this.guards, marks: true }), signal);
    } catch (error) {
      throw hasCode(error, 'NOT_HELD') ? ticketLost(this.key) : error;
    }
  }

  /**
   * Gives the ticket back: deletes the key if it is still ours. Rejects when that could not be confirmed; it is then tried
   * until it is, or the session ends, and calling again waits for that.
   */
  leave(): Promise<void> {
    const isShared = this.#request.suffix === leaseHex(this.session.leaseId);
    // No later life has a ticket whose suffix was used once, whatever was written to it.
    const ours = this.#unsure || !isShared ? [this.there] : this.guards;
    this.#left ??= this.#leave([this.key], removalOf(this.#request, this.createRevision, ours), (result) =>
      afterRemoval(this.#request, result),
    );
    return this.#left;
  }

  /** As `leave`, unless the session has ended: its lease then decides, which may be resumed elsewhere. */
  async leaveIfAlive(): Promise<void> {
    if (this.session.alive) await this.leave();
  }

  #write(value: string | Uint8Array, terms: WriteTerms): Promise<bigint> {
    this.#unsure ||= terms.marks;
    const writing = this.#settled.then(() => this.#writeNow(value, terms));
    this.#settled = writing.catch(() => undefined);
    return writing;
  }

  async #writeNow(value: string | Uint8Array, { also, guards, marks }: WriteTerms): Promise<bigint> {
    const { client, leaseId } = this.session;
    const put = op.put(this.key, value, { leaseId });
    for (let overtaken = 0; ; overtaken++) {
      // A write that moves the mark is refused once it has been made. So is any other by the key's own revision: a copy of
      // it that arrives late must not undo what came after. The last resort goes without, and so is sent once.
      const blindly = !marks && overtaken >= MOST_OVERTAKEN;
      const unwritten = marks || blindly ? [] : [compare.modRevision(this.key, '=', this.#modRevision)];
      const result = await client.kv.txn(
        { else: this.looks, if: [...guards, ...unwritten], then: [put, ...also] },
        { idempotent: !blindly },
      );
      if (marks) this.#unsure = false;
      const found = result.succeeded ? result.revision : this.#foundWritten(value, marks, result.responses);
      if (found !== undefined) {
        if (found > this.#modRevision) this.#modRevision = found;
        if (marks) this.#mark = found;
        return found;
      }
      if (marks || !this.#foundOvertaken(result.responses)) {
        this.judge(result.responses);
        throw notHeld(this.key);
      }
    }
  }

  /** The revision of a first try of ours whose answer was lost; undefined when there was none. */
  #foundWritten(
    value: string | Uint8Array,
    marks: boolean,
    responses: readonly OpResult[],
  ): bigint | undefined {
    const [kv, mark = kv] = responses.map(firstKv);
    if (kv?.createRevision !== this.createRevision) return undefined;
    if (marks)
      return mark?.value.equals(markOf({ ...this.#request, value })) === true ? mark.modRevision : undefined;
    return mark?.modRevision === this.#mark && kv.value.equals(Buffer.from(value))
      ? kv.modRevision
      : undefined;
  }

  /** Whether the key is ours, and was written by somebody else, or by a copy of a write of ours of which nobody knew. */
  #foundOvertaken(responses: readonly OpResult[]): boolean {
    const [kv, mark] = responses.map(firstKv);
    if (kv?.createRevision !== this.createRevision || mark?.modRevision !== this.#mark) return false;
    const overtaken = kv.modRevision !== this.#modRevision;
    this.#modRevision = kv.modRevision;
    return overtaken;
  }

  async #leave(
    keys: readonly string[],
    spec: TxnSpec,
    after?: (result: TxnResult) => Promise<void>,
  ): Promise<void> {
    const { session } = this;
    if (session.state === 'lost') return; // The lease takes the key with it.
    const removal = removalsOf(session).run(keys, async () => {
      const result = await session.client.kv.txn(spec, { idempotent: true });
      await after?.(result);
    });
    const over = (): void => this.#attempt.over();
    removal.confirmed.then(over, over);
    try {
      await removal.firstTry;
    } catch (error) {
      if (!session.alive) return; // Closed meanwhile: its lease, revoked or running out, takes the key with it.
      this.#left = isTransient(error) ? removal.confirmed : undefined;
      throw error;
    }
  }
}

/** What was held is no longer held, so nothing was written. */
export function notHeld(key: string): ConclaveError {
  const text = `${key} is no longer held, so nothing was written: it was released, handed over or lost. Acquire it again.`;
  return new ConclaveError('NOT_HELD', text, { key });
}
