/**
 * Whether those who hold a name together may: the readers and the writer of a read-write lock, the permits of a semaphore.
 *
 * Records: `acquire` and `held` with a `mode` or a `weight` (without either they take the whole name), `limit` of a
 * semaphore, and all that mutual-exclusion.ts judges. Rules that go by revisions bear on what etcd did: at its token a hold
 * is there, as it is at each of its guarded writes, and in between. Rules that go by the order of the history bear on what
 * holders knew, and excuse those that were frozen.
 */
import type { HistoryRecord, Violation } from './history.js';
import { activeUntil, type Freezes, lossOf, outside } from './hold-rules.js';
import { attemptsOf, freezesOf, type Held, holdsByName } from './holds.js';
import { Highest, inOrder, push } from './places.js';
import { excludes, type Limits, limitsOf, sharedNames, weightOf } from './shares.js';

/**
 * Rules: `holds-overlap` (a writer beside anybody), `over-limit` (permits of more weight than the limit), both as holders
 * knew; `holds-interleave`, the same by revisions; `tokens-increase` (holds that exclude each other), `guarded-write-outside`,
 * `loss-told-late`, `write-before-loss-told`. Those of a name without shares are left to `checkMutualExclusion`.
 * A limit that shrinks takes nothing from those who hold, nor from those who asked while it was greater.
 */
export function checkSharedHolds(history: readonly HistoryRecord[]): Violation[] {
  const freezes = freezesOf(history);
  const shared = sharedNames(history);
  const limits = limitsOf(history);
  return [...holdsByName(attemptsOf(history))].flatMap(([name, held]) => {
    if (!shared.has(name)) return [];
    const holds = held.map((one) => shareOf(one, limits.get(name)));
    return [
      ...tokens(holds, limits.get(name)?.most ?? Infinity),
      ...together(holds.map((share) => ({ ...asKnown(share, freezes), share }))).map(overlap),
      ...together(holds.map((share) => ({ ...asProven(share), share }))).map(interleaved),
      ...held.flatMap((one) => one.writes.flatMap(({ record }) => outside(one, record))),
      ...held.flatMap((one) => lossOf(one, freezes)),
    ];
  });
}

interface Shared {
  readonly hold: Held;
  readonly weight: number;
  /** The greatest limit while it was asked for. */
  readonly limit: number;
}

function shareOf(hold: Held, limits: Limits | undefined): Shared {
  const { acquire, held } = hold;
  const limit = limits?.within(acquire?.index ?? held.index, held.index) ?? Infinity;
  return { hold, limit, weight: weightOf(hold) };
}

/** A hold, and from where to where it is: places in the history, or revisions; no end is its own. */
interface Span<P extends number | bigint> {
  readonly share: Shared;
  readonly from: P;
  readonly end: P;
}

function asKnown({ hold }: Shared, freezes: Freezes): Omit<Span<number>, 'share'> {
  return { end: activeUntil(hold, freezes), from: hold.held.index };
}

/** From its token to its last write; an upgrade and a downgrade show that it was there until then. */
function asProven({ hold }: Shared): Omit<Span<bigint>, 'share'> {
  const from = hold.held.record.token;
  const last = hold.passedOn?.record.token;
  if (last !== undefined) return { end: last, from };
  const writes = hold.writes.map(({ record }) => record.revision ?? from);
  return { end: writes.reduce((one, other) => (one > other ? one : other), from) + 1n, from };
}

/** Some that are together, the newest of them last, and may not be. */
type Crowd = readonly Shared[];

/** Goes through holds in the order in which they begin; yields each that must not be beside those that are there then. */
function together<P extends number | bigint>(spans: readonly Span<P>[]): Crowd[] {
  const begun = spans.filter(({ end, from }) => end > from).sort((a, b) => order(a.from, b.from));
  const ended = begun.toSorted((a, b) => order(a.end, b.end));
  const there = new Set<Shared>();
  const whole = new Set<Shared>();
  const crowds: Crowd[] = [];
  let sum = 0;
  let gone = 0;
  for (const { from, share } of begun) {
    for (let over = ended[gone]; over !== undefined && over.end <= from; over = ended[++gone]) {
      there.delete(over.share);
      if (!whole.delete(over.share)) sum -= over.share.weight;
    }
    const [first] = there;
    const [writer] = whole;
    if (writer !== undefined) crowds.push([writer, share]);
    else if (share.weight === Infinity && first !== undefined) crowds.push([first, share]);
    else if (share.weight !== Infinity && sum + share.weight > share.limit) crowds.push([...there, share]);
    there.add(share);
    if (share.weight === Infinity) whole.add(share);
    else sum += share.weight;
  }
  return crowds;
}

function order<P extends number | bigint>(one: P, other: P): number {
  return one === other ? 0 : one < other ? -1 : 1;
}

function overlap(crowd: Crowd): Violation {
  const [first, newest] = ends(crowd);
  const at = inOrder(...crowd.map(({ hold }) => hold.held));
  const { name } = newest.hold;
  if (isTooMuch(crowd))
    return {
      at,
      message: `${name}: ${sumOf(crowd)} permits are held with attempt ${newest.hold.attempt} of ${newest.hold.process}, and the limit is ${newest.limit}`,
      rule: 'over-limit',
    };
  return {
    at,
    message: `${name}: ${shown(newest)} is held while ${shown(first)} still is`,
    rule: 'holds-overlap',
  };
}

function interleaved(crowd: Crowd): Violation {
  const [first, newest] = ends(crowd);
  const { held, name } = newest.hold;
  const why = isTooMuch(crowd)
    ? `${sumOf(crowd)} permits were held, and the limit was ${newest.limit}`
    : `${shown(first)} held it from ${first.hold.held.record.token} to ${asProven(first).end - 1n}`;
  const writes = crowd.flatMap(({ hold }) => [...hold.writes.slice(-1), hold.passedOn]);
  return {
    at: inOrder(...crowd.map(({ hold }) => hold.held), ...writes.filter((one) => one?.index !== held.index)),
    message: `${name}: at ${held.record.token}, the token of ${shown(newest)}, ${why}`,
    rule: 'holds-interleave',
  };
}

function ends(crowd: Crowd): readonly [Shared, Shared] {
  const [first] = crowd;
  const newest = crowd.at(-1);
  if (first === undefined || newest === undefined) throw new TypeError('nobody is together');
  return [first, newest];
}

function isTooMuch(crowd: Crowd): boolean {
  return crowd.every(({ weight }) => weight !== Infinity);
}

function sumOf(crowd: Crowd): number {
  return crowd.reduce((sum, { weight }) => sum + weight, 0);
}

function shown({ hold, weight }: Shared): string {
  return `attempt ${hold.attempt} of ${hold.process} (${weight === Infinity ? 'all of it' : `weight ${weight}`})`;
}

/**
 * Of holds that exclude each other none has the other's token, and one whose attempt began when the other had been told has
 * a greater one.
 */
function tokens(holds: readonly Shared[], most: number): Violation[] {
  const violations: Violation[] = [];
  const told = new Map<number, Highest<bigint, Held>>();
  const same = new Map<bigint, Shared[]>();
  for (const share of holds) {
    const { hold, weight } = share;
    const { token } = hold.held.record;
    const began = hold.acquire?.index ?? hold.held.index;
    const before = [...told].flatMap(([its, highest]) =>
      excludes(weight, its, most) ? (highest.before(began)?.of ?? []) : [],
    );
    const [twin] = same.get(token) ?? [];
    const earlier =
      twin !== undefined && excludes(weight, twin.weight, most)
        ? twin.hold
        : before.find(({ held }) => held.record.token > token);
    if (earlier !== undefined)
      violations.push({
        at: inOrder(earlier.held, hold.held),
        message: `${hold.name}: token ${token} of attempt ${hold.attempt} is not above ${earlier.held.record.token} of attempt ${earlier.attempt}, which was held before`,
        rule: 'tokens-increase',
      });
    push(same, token, share);
    const highest = told.get(weight) ?? new Highest<bigint, Held>();
    told.set(weight, highest);
    highest.add(hold.held.index, token, hold);
  }
  return violations;
}
