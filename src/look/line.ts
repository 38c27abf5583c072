/** Who holds a name that is a line of keys, and what it is: read from the front, for as long as it takes to know. */
import type { KeyValue } from '../etcd/kv/key-value.js';
import { limitOf, whileItFits } from '../mutex/limit.js';
import { readersOrWriter } from '../mutex/rw-policy.js';
import { tagOf } from '../mutex/tag.js';
import { firstOnly, type Policy } from '../ticket/line-audience.js';
import { ownerOf, readOwner } from '../ticket/owner.js';
import type { Moment } from './moment.js';
import type { Kind, Name, Party } from './names.js';
import { partyOf } from './party.js';

/** The keys of a line, without their values. */
export class LineFound {
  readonly name: string;
  /** Keys bound to a lease, directly below the name. */
  readonly tickets: KeyValue[] = [];
  /** The keys that say whose a ticket is, by its last segment. */
  readonly notes = new Map<string, KeyValue>();
  limit: KeyValue | undefined;
  upgrade: KeyValue | undefined;
  /** Whether one of the tickets is surely one: else the name is somebody's keys, which have nothing to do with us. */
  proven = false;

  constructor(name: string) {
    this.name = name;
  }

  /** Whether it is a line at all. */
  get isLine(): boolean {
    return this.proven || this.limit !== undefined;
  }
}

/** A line as far as it was read: from its first on. */
export class LineLook {
  readonly found: LineFound;
  readonly #line: readonly KeyValue[];
  /** With their values; a ticket that was removed meanwhile cannot be missing, since all is of one revision. */
  readonly #read: KeyValue[] = [];
  readonly #notes = new Map<KeyValue, KeyValue>();
  #besides: readonly (KeyValue | undefined)[] = [];

  readonly #values: boolean;

  /** `values`: what candidates say is read, and shown. */
  constructor(found: LineFound, { values = false }: { readonly values?: boolean } = {}) {
    this.found = found;
    this.#values = values;
    this.#line = found.tickets.sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
  }

  /** What is to be read next, so that it is known who holds and who is the first to wait, or who stands in line up to `most`. */
  wanted(most = 0): readonly KeyValue[] {
    const known = this.#read.length;
    const enough = known > 0 && this.#admitted().length < known && known >= most;
    if (enough) return [];
    return this.#line.slice(known, Math.max(known * 2, 2, most));
  }

  /** The keys beside the line that say how it is shared. */
  get besides(): readonly KeyValue[] {
    return [this.found.limit, this.found.upgrade].filter((kv) => kv !== undefined);
  }

  /** Takes what was read of `besides`. */
  takeBesides(kvs: readonly (KeyValue | undefined)[]): void {
    this.#besides = kvs;
  }

  /** Whether a ticket's value is to be read: a note tells better who it is, and what a candidate says may not be shown. */
  reads(ticket: KeyValue): boolean {
    return this.#values || this.noteOf(ticket) === undefined;
  }

  /** The note of a ticket, if there is one on its lease. */
  noteOf(ticket: KeyValue): KeyValue | undefined {
    const note = this.found.notes.get(ticket.key.slice(this.found.name.length + 1));
    return note?.leaseId === ticket.leaseId ? note : undefined;
  }

  /** Takes what was read of what was wanted, with its notes. */
  take(ticket: KeyValue, note: KeyValue | undefined): void {
    this.#read.push(ticket);
    if (note !== undefined) this.#notes.set(ticket, note);
  }

  get kind(): Kind {
    const { limit, notes } = this.found;
    if (limit !== undefined) return 'semaphore';
    return notes.size > 0 ? 'election' : kindOf(this.#read);
  }

  /** The name, with who holds it. */
  get report(): Name {
    const { kind } = this;
    const holders = this.#admitted().map((kv) => this.party(kv));
    const next = this.#read[holders.length];
    return {
      kind,
      name: this.found.name,
      holders,
      waiting: this.#line.length - holders.length,
      oldestWait: next === undefined ? undefined : this.party(next).since,
      ...(kind === 'semaphore' && { limit: limitOf(this.#beside('limit')) }),
    };
  }

  /** Those who wait, as far as they were read. */
  get waiters(): readonly Party[] {
    return this.#read.slice(this.#admitted().length).map((kv) => this.party(kv));
  }

  /** What a ticket says of who stands there. */
  party(kv: KeyValue): Party {
    const { mode, weight } = tagOf(kv);
    const { kind } = this;
    return {
      ...partyOf(kv, { note: this.#notes.get(kv) }),
      ...(this.#values && kind === 'election' && { value: kv.string() }),
      ...(kind === 'rw-lock' && { mode }),
      ...(kind === 'semaphore' && weight !== undefined && { weight }),
    };
  }

  #beside(what: 'limit' | 'upgrade'): KeyValue | undefined {
    const at = this.besides.findIndex((kv) => kv === this.found[what]);
    return at < 0 ? undefined : this.#besides[at];
  }

  #admitted(): KeyValue[] {
    const { kind } = this;
    const policy: Policy =
      kind === 'semaphore' ? whileItFits : kind === 'rw-lock' ? readersOrWriter : firstOnly;
    // One permit of a semaphore whose limit was removed is held by nobody, as far as the keys tell.
    return [...policy(this.#read, this.#beside(kind === 'semaphore' ? 'limit' : 'upgrade'))];
  }
}

/** What a line is, by the values of its tickets alone. */
export function kindOf(tickets: readonly KeyValue[]): Kind {
  const owners = tickets.map(readOwner);
  if (owners.some(({ weight }) => weight !== undefined)) return 'semaphore';
  if (owners.some(({ mode }) => mode !== undefined)) return 'rw-lock';
  const speaks = tickets.some((kv) => kv.value.length > 0 && ownerOf(kv).host === undefined);
  return speaks ? 'election' : 'lock';
}

/** Reads of every line as much as is needed; and up to `most` of those who stand in each, even if it is known who holds. */
export async function readLines(moment: Moment, looks: readonly LineLook[], most = 0): Promise<void> {
  const settings = await moment.values(looks.flatMap((look) => look.besides.map(({ keyBytes }) => keyBytes)));
  for (const look of looks) look.takeBesides(settings.splice(0, look.besides.length));
  for (let rest = looks; rest.length > 0;) {
    const wanted = rest.flatMap((look) =>
      look.wanted(most).map((ticket) => ({ look, note: look.noteOf(ticket), ticket })),
    );
    const tickets = wanted.filter(({ look, ticket }) => look.reads(ticket));
    const notes = wanted.flatMap(({ note }) => note ?? []);
    const read = await moment.values(
      [...tickets.map(({ ticket }) => ticket), ...notes].map(({ keyBytes }) => keyBytes),
    );
    const found = new Map([...tickets.map(({ ticket }) => ticket), ...notes].map((kv, at) => [kv, read[at]]));
    for (const { look, note, ticket } of wanted) {
      look.take(found.get(ticket) ?? ticket, note === undefined ? undefined : found.get(note));
    }
    rest = [...new Set(wanted.map(({ look }) => look))];
  }
}
