// Double barriers: whether each round had all its parties before one was let in, and none when one was let out.
import type { HistoryRecord, Violation } from './history.js';
import { firstAt, type Firsts, Highest, inOrder, keepFirst, type Placed, push } from './places.js';

/** Judges all double barriers of a history. */
export function doubleBarriers(history: readonly HistoryRecord[]): Violation[] {
  const names = new Map<string, Map<number, Party>>();
  /** Those that were begun since the last crash, by process. */
  const running = new Map<string, Party[]>();
  for (const [index, record] of history.entries()) {
    if (record.is === 'crashed') {
      for (const party of running.get(record.process) ?? []) party.crashed = { index, record };
      running.delete(record.process);
    }
    if (!('party' in record)) continue;
    const parties = names.get(record.name) ?? new Map<number, Party>();
    names.set(record.name, parties);
    const known = parties.get(record.party);
    const party = known ?? {};
    keepFirst<PartyRecord['is']>(party, index, record);
    if (known !== undefined) continue;
    parties.set(record.party, party);
    push(running, record.process, party);
  }
  return [...names].flatMap(([name, parties]) => roundsOf(name, [...parties.values()]));
}

type PartyRecord = Extract<HistoryRecord, { readonly party: number }>;
type Party = Firsts<PartyRecord['is'] | 'crashed'>;

/** A party that was told to be in a round. */
type Inside = Party & { readonly entered: Placed<'entered'> };

/** Those that were told to be in one, the first of them first. */
interface Round {
  readonly name: string;
  readonly round: bigint;
  readonly inside: readonly Inside[];
  readonly first: Inside;
  /** The party that asked last to enter: it was declared full after that. */
  readonly latest: Inside;
}

function roundsOf(name: string, parties: readonly Party[]): Violation[] {
  const byRound = new Map<bigint, Inside[]>();
  const inside = parties.filter((party): party is Inside => party.entered !== undefined);
  inside.sort((one, other) => one.entered.index - other.entered.index);
  for (const party of inside) push(byRound, party.entered.record.round, party);
  const rounds = [...byRound].flatMap(([round, its]): Round[] => {
    const [first] = its;
    if (first === undefined) return [];
    const latest = its.reduce((one, other) => (askedAt(other) > askedAt(one) ? other : one));
    return [{ first, inside: its, latest, name, round }];
  });
  rounds.sort((one, other) => (one.round < other.round ? -1 : 1));
  const others = new Undecided(parties);
  return [
    ...rounds.flatMap((round) => [...full(round, others), ...leftEarly(round)]),
    ...overlaps(rounds),
    ...old(inside),
    ...keys(rounds),
  ];
}

/** Where a party asked to enter; -1 when nobody wrote that down. */
function askedAt({ enters }: Party): number {
  return enters?.index ?? -1;
}

/** Where it may have left, or be dead. */
function departs({ crashed, enterEnds, leaves, partyGone }: Party): number {
  return Math.min(...[crashed, enterEnds, leaves, partyGone].map((end) => end?.index ?? Infinity));
}

/** Parties of which nobody knows in which round they were, if in any: they gave up, crashed, or wait. */
class Undecided {
  readonly #asked: number[];
  readonly #ended: number[];

  constructor(parties: readonly Party[]) {
    const undecided = parties.filter(({ entered }) => entered === undefined);
    const sorted = (places: number[]): number[] => places.sort((one, other) => one - other);
    this.#asked = sorted(undecided.map(askedAt));
    // A key outlives its process by a lease, and a call that could not reach etcd: who can look has seen it go.
    this.#ended = sorted(
      undecided.flatMap(({ arrived, enterEnds, partyGone }) => {
        const end = arrived === undefined ? (partyGone ?? enterEnds) : partyGone;
        return end === undefined ? [] : [end.index];
      }),
    );
  }

  /** How many asked before one place, and were not over before another. */
  between(asked: number, over: number): number {
    const before = (places: readonly number[], index: number): number =>
      firstAt(places.length, (at) => (places[at] ?? 0) >= index);
    return before(this.#asked, asked) - before(this.#ended, Math.min(over, asked));
  }
}

/** All parties had asked before the first was let in, and they are as many as it takes. */
function full({ first, inside, latest, name, round }: Round, others: Undecided): Violation[] {
  const violations: Violation[] = [];
  const told = first.entered;
  const count = first.enters?.record.count ?? inside.length;
  if (askedAt(latest) > told.index)
    violations.push({
      at: inOrder(told, latest.enters, latest.entered),
      message: `${name}: party ${told.record.party} entered round ${round} before party ${latest.entered.record.party} of it asked to`,
      rule: 'entered-early',
    });
  if (inside.length > count)
    violations.push({
      at: inOrder(...inside.map(({ entered }) => entered)),
      message: `${name}: ${inside.length} parties entered round ${round}, which has ${count}`,
      rule: 'round-too-large',
    });
  const most = inside.length + others.between(told.index, askedAt(latest));
  if (most < count)
    violations.push({
      at: inOrder(...inside.map(({ entered }) => entered)),
      message: `${name}: round ${round} had ${most} parties at most when party ${told.record.party} entered, and takes ${count}`,
      rule: 'entered-early',
    });
  return violations;
}

/** Nobody is told that all have left while one of them has not. */
function leftEarly({ inside, name, round }: Round): Violation[] {
  const last = inside.reduce<Inside | undefined>(
    (one, other) => (one === undefined || departs(other) > departs(one) ? other : one),
    undefined,
  );
  return inside.flatMap(({ left }): Violation[] => {
    if (last === undefined || left === undefined || left.index > departs(last)) return [];
    const message = `${name}: party ${left.record.party} was told that all have left round ${round}, when party ${last.entered.record.party} had not`;
    return [{ at: inOrder(last.entered, left, last.leaves), message, rule: 'left-early' }];
  });
}

/** Nobody enters a round while a party of an earlier one is inside. */
function overlaps(rounds: readonly Round[]): Violation[] {
  let stayer: Inside | undefined;
  return rounds.flatMap(({ first, inside, name, round }): Violation[] => {
    const before = stayer;
    for (const party of inside) if (stayer === undefined || departs(party) > departs(stayer)) stayer = party;
    if (before === undefined || departs(before) < first.entered.index) return [];
    const { record } = before.entered;
    const message = `${name}: party ${first.entered.record.party} entered round ${round} when party ${record.party} was in round ${record.round} still`;
    return [{ at: inOrder(before.entered, first.entered, before.leaves), message, rule: 'rounds-overlap' }];
  });
}

/** Who asks when a round was told is in a later one. */
function old(inside: readonly Inside[]): Violation[] {
  const highest = new Highest<bigint, Inside>();
  for (const party of inside) highest.add(party.entered.index, party.entered.record.round, party);
  return inside.flatMap((party): Violation[] => {
    const { name, party: number, round } = party.entered.record;
    const later = highest.before(askedAt(party));
    if (later === undefined || later.value < round) return [];
    const message = `${name}: party ${number} asked to enter when round ${later.value} was full, and is in round ${round}`;
    return [{ at: inOrder(later.of.entered, party.enters, party.entered), message, rule: 'round-of-old' }];
  });
}

/** The keys of a round are made after the round before, and up to its own number. */
function keys(rounds: readonly Round[]): Violation[] {
  return rounds.flatMap(({ inside, name, round }, at) => {
    const before = rounds[at - 1]?.round ?? 0n;
    return inside.flatMap(({ arrived, entered }): Violation[] => {
      if (arrived === undefined) return [];
      const { createRevision, party } = arrived.record;
      if (createRevision > before && createRevision <= round) return [];
      const message = `${name}: party ${party}, created at ${createRevision}, is in round ${round}, whose parties were created after ${before} and up to ${round}`;
      return [{ at: inOrder(arrived, entered), message, rule: 'round-of-old' }];
    });
  });
}
