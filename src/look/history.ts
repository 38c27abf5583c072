/**
 * Who held a name, from when to when: the terms of a lock, a read-write lock, a semaphore or an election, from etcd's history.
 *
 * Not in etcd's history: the time (a revision is dated by what those who asked wrote beside their key, by their clocks), and
 * whether a lease ran out or was revoked. A semaphore's terms go by the limit that it has now.
 */
import type { Client } from '../etcd/client.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { WatchEvent } from '../etcd/watch/watch-event.js';
import { leaseHex } from '../etcd/lease/lease.js';
import { limitKeyOf, whileItFits } from '../mutex/limit.js';
import { readersOrWriter } from '../mutex/rw-policy.js';
import { firstOnly } from '../ticket/line-audience.js';
import { idOf, isTicket } from '../ticket/line-keys.js';
import { ownerOf } from '../ticket/owner.js';
import { noteKeyOf } from '../ticket/take.js';
import { SESSION_KEYS } from '../util/key-space.js';
import { kindOf } from './line.js';
import { Moment, type Wanted } from './moment.js';
import type { Kind, Party } from './names.js';
import { readPast } from './past.js';
import { partyOf } from './party.js';

/** How a term ended. */
export type TermEnd =
  /** The key was deleted while its lease went on: by its holder, or by hand. */
  | 'released'
  /** The key went with its lease: its session was closed, its lease ran out, or somebody revoked it. */
  | 'lease ended'
  /** The key was deleted; its client has written nothing by which it could be told why. */
  | 'ended'
  /** The next task of the same process has it. */
  | 'passed on';

/** One holder's time. */
export interface Term {
  readonly holder: Omit<Party, 'leaseLeftSeconds'>;
  /** The revision from which it held; its fencing token. Undefined: it held when history begins. */
  readonly token: string | undefined;
  /** The revision at which it ended; undefined: it holds. */
  readonly until: string | undefined;
  readonly ended: TermEnd | undefined;
  /** Between which times it began, and ended, by the clocks of those who asked before and after, and of who reads; undefined: not known. */
  readonly began: Dated;
  readonly over: Dated;
  /** What a leader has said, in order. */
  readonly values: readonly string[];
}

/** A moment, dated by what is known of the revisions before and after. */
export interface Dated {
  readonly after: string | undefined;
  readonly before: string | undefined;
}

/** The past of a name. */
export interface History {
  readonly name: string;
  readonly kind: Kind;
  /** History before this revision is compacted; "0": there is all of it. */
  readonly since: string;
  readonly until: string;
  /** Whether it is proven that nothing is missing. */
  readonly complete: boolean;
  /** In the order in which they began. */
  readonly terms: readonly Term[];
}

/** Reads who held `name`, from etcd's history. */
export async function readHistory(client: Client, name: string, signal: AbortSignal): Promise<History> {
  const past = await readPast(client, name, signal);
  const moment = new Moment(client, past.until, signal);
  const puts = [...past.first, ...past.events.filter(({ type }) => type === 'put').map(({ kv }) => kv)];
  const tickets = puts.filter((kv) => isTicket(kv, name));
  const { kind, limit, notes } = await kindAt(moment, name, tickets, past.since);
  const replay = new Replay(name, kind, limit);
  replay.load(past.first, past.since);
  for (const group of byRevision(past.events)) replay.apply(group);
  const ends = await endsOf(moment, replay.terms);
  const readAt = new Date(client.clock.wall()).toISOString();
  const dates = new Dates([...tickets, ...notes.values()], readAt);
  return {
    name,
    kind,
    since: String(past.since),
    until: String(past.until),
    complete: past.complete,
    terms: replay.terms.map((term, at) =>
      termOf(term, { dates, end: ends[at], kind, note: notes.get(lifeOf(term.kv)) }),
    ),
  };
}

/** Those of a history who held at a revision. Undefined: it is outside of what is known. */
export function heldAt({ since, terms, until }: History, revision: bigint): readonly Term[] | undefined {
  if (revision < BigInt(since) || revision > BigInt(until)) return undefined;
  return terms.filter((term) => {
    const from = term.token === undefined ? 0n : BigInt(term.token);
    return from <= revision && (term.until === undefined || revision < BigInt(term.until));
  });
}

/** Those who may have held at a time: each whose term may have begun before it and may have ended after it. */
export function heldWhen(
  { terms }: History,
  at: Date,
): readonly { readonly term: Term; readonly certain: boolean }[] {
  const ms = at.getTime();
  const time = (iso: string | undefined): number | undefined =>
    iso === undefined ? undefined : Date.parse(iso);
  return terms.flatMap((term) => {
    const [begun, begunBy] = [time(term.began.after), time(term.began.before)];
    const [over, overBy] = [time(term.over.after), time(term.over.before)];
    const may = (begun ?? -Infinity) <= ms && (term.until === undefined || ms <= (overBy ?? Infinity));
    const must =
      begunBy !== undefined &&
      begunBy <= ms &&
      (term.until === undefined || (over !== undefined && ms < over));
    return may ? [{ certain: must, term }] : [];
  });
}

/** A term as it is replayed. */
interface Played {
  kv: KeyValue;
  readonly from: bigint | undefined;
  readonly values: string[];
  until?: bigint;
  passedOn?: boolean;
}

/** Applies what happened, revision by revision, and notes who held. */
class Replay {
  readonly terms: Played[] = [];
  readonly #name: string;
  readonly #kind: Kind;
  readonly #limit: KeyValue | undefined;
  readonly #line = new Map<string, KeyValue>();
  readonly #open = new Map<string, Played>();

  constructor(name: string, kind: Kind, limit: KeyValue | undefined) {
    this.#name = name;
    this.#kind = kind;
    this.#limit = limit;
  }

  load(kvs: readonly KeyValue[], revision: bigint): void {
    const line = kvs.filter((kv) => isTicket(kv, this.#name));
    line.sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
    for (const kv of line) this.#line.set(idOf(kv), kv);
    this.#settle(revision, true);
  }

  apply({ events, revision }: Revision): void {
    for (const { kv, type } of events) {
      const id = idOf(kv);
      const open = this.#open.get(id);
      if (type === 'delete') this.#line.delete(id);
      else if (isTicket(kv, this.#name)) {
        // A key that is written again stays in its place; one that is made anew goes to the end.
        if (this.#line.get(id)?.createRevision !== kv.createRevision) this.#line.delete(id);
        this.#line.set(id, kv);
        if (open !== undefined && this.#kind === 'election') open.values.push(kv.string());
        else if (open !== undefined && this.#kind === 'lock') this.#end(id, open, revision, true);
        else if (open !== undefined) open.kv = kv;
      }
    }
    this.#settle(revision, false);
  }

  #end(id: string, open: Played, revision: bigint, passedOn: boolean): void {
    open.until = revision;
    open.passedOn = passedOn;
    this.#open.delete(id);
  }

  /** Ends the terms of those who hold no more, and begins those of who does. */
  #settle(revision: bigint, isFirst: boolean): void {
    const policy =
      this.#kind === 'semaphore' ? whileItFits : this.#kind === 'rw-lock' ? readersOrWriter : firstOnly;
    const holders = new Map<string, KeyValue>();
    for (const kv of policy(this.#line.values(), this.#limit)) holders.set(idOf(kv), kv);
    for (const [id, open] of this.#open) {
      if (holders.get(id)?.createRevision !== open.kv.createRevision) this.#end(id, open, revision, false);
    }
    for (const [id, kv] of holders) {
      if (this.#open.has(id)) continue;
      const values = this.#kind === 'election' ? [kv.string()] : [];
      const term: Played = { from: isFirst ? undefined : revision, kv, values };
      this.#open.set(id, term);
      this.terms.push(term);
    }
  }
}

/** All changes of one revision. */
interface Revision {
  readonly revision: bigint;
  readonly events: readonly WatchEvent[];
}

function byRevision(events: readonly WatchEvent[]): Revision[] {
  const groups: { revision: bigint; events: WatchEvent[] }[] = [];
  for (const event of events) {
    const { modRevision } = event.kv;
    const last = groups.at(-1);
    if (last?.revision === modRevision) last.events.push(event);
    else groups.push({ events: [event], revision: modRevision });
  }
  return groups;
}

/** One life of a key: a session may use the same one again and again. */
function lifeOf(kv: KeyValue): string {
  return `${String(kv.createRevision)} ${idOf(kv)}`;
}

/** What the line is, and the notes that were written with its tickets, by their lives. */
async function kindAt(
  moment: Moment,
  name: string,
  tickets: readonly KeyValue[],
  since: bigint,
): Promise<{ kind: Kind; limit: KeyValue | undefined; notes: ReadonlyMap<string, KeyValue> }> {
  const [limit] = await moment.values([limitKeyOf(name)]);
  const kind = limit === undefined ? kindOf(tickets) : 'semaphore';
  if (kind !== 'election' && kind !== 'lock') return { kind, limit, notes: new Map() };
  const lives = new Map<string, Wanted>();
  for (const kv of tickets) {
    if (lives.has(lifeOf(kv))) continue;
    const range = noteKeyOf({ name, suffix: kv.key.slice(name.length + 1) });
    lives.set(lifeOf(kv), { range, revision: kv.modRevision > since ? kv.modRevision : since });
  }
  const found = await moment.read([...lives.values()]);
  const notes = [...lives.keys()].flatMap((life, at): [string, KeyValue][] => {
    const note = found[at]?.kvs[0];
    return note === undefined ? [] : [[life, note]];
  });
  return { kind: notes.length > 0 ? 'election' : kind, limit, notes: new Map(notes) };
}

/** How each term ended, by whether its session's own key has outlived it. */
async function endsOf(moment: Moment, terms: readonly Played[]): Promise<(TermEnd | undefined)[]> {
  const wanted = terms.flatMap(({ kv, passedOn, until }): Wanted[] => {
    if (until === undefined || passedOn === true) return [];
    const range = `${SESSION_KEYS}floor/${leaseHex(kv.leaseId ?? 0n)}`;
    const options = { keysOnly: true } as const;
    return [until - 1n, until].map((revision) => ({ options, range, revision }));
  });
  const found = await moment.read(wanted);
  return terms.map(({ passedOn, until }) => {
    if (until === undefined) return undefined;
    if (passedOn === true) return 'passed on';
    const [before, then] = found.splice(0, 2).map(({ kvs }) => kvs.length > 0);
    if (then === true) return 'released';
    return before === true ? 'lease ended' : 'ended';
  });
}

/** Dates revisions by what those who asked have written. */
class Dates {
  readonly #known: readonly { readonly revision: bigint; readonly iso: string }[];

  readonly #readAt: string;

  /** `says`: keys that were written, and say when; all of it happened before `readAt`. */
  constructor(says: readonly KeyValue[], readAt: string) {
    this.#readAt = readAt;
    this.#known = says
      .flatMap((kv) => {
        const { since } = ownerOf(kv);
        // Who is handed a lock by another task of its process has asked earlier than the key was written.
        const isNew = kv.version === 1n && since !== undefined && !Number.isNaN(Date.parse(since));
        return isNew ? [{ iso: since, revision: kv.modRevision }] : [];
      })
      .sort((a, b) => (a.revision < b.revision ? -1 : 1));
  }

  of(revision: bigint | undefined): Dated {
    if (revision === undefined) return { after: undefined, before: undefined };
    return {
      after: this.#known.findLast((known) => known.revision <= revision)?.iso,
      before: this.#known.find((known) => known.revision >= revision)?.iso ?? this.#readAt,
    };
  }
}

/** What is needed to tell of a term. */
interface Telling {
  readonly kind: Kind;
  readonly end: TermEnd | undefined;
  readonly note: KeyValue | undefined;
  readonly dates: Dates;
}

function termOf({ from, kv, until, values }: Played, { dates, end, note }: Telling): Term {
  const holder = { ...partyOf(kv), ...(note !== undefined && ownerOf(note)) };
  return {
    holder: { ...holder, foreign: holder.host === undefined },
    token: from === undefined ? undefined : String(from),
    until: until === undefined ? undefined : String(until),
    ended: end,
    began: dates.of(from),
    over: dates.of(until),
    values,
  };
}
