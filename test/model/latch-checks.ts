/** What must be true of every run of latches, checked by revisions. */
import { type History, type KeyLife, wasAlive } from './history.js';
import type { LatchActor, LatchCall } from './latch-actor.js';
import { Timeline } from './timeline.js';

/** How a latch was as of a revision; undefined: there was none. */
type Was = { readonly created: bigint; readonly count: number; readonly left: number } | undefined;

/** What a call may end with whatever the latch was meanwhile. */
const GIVEN_UP = /^(GONE|TimeoutError|SESSION_LOST|LEASE_NOT_FOUND)/;

/** Checks a run of one latch, and collects what is wrong. */
export class LatchChecks {
  readonly problems: string[] = [];
  readonly #name: string;
  /** Its lives: it is made again after it was removed. */
  readonly #latches: readonly KeyLife[];
  readonly #counts: readonly KeyLife[];
  readonly #timeline: Timeline<Was>;

  constructor(history: History, name: string) {
    const prefix = `${name}/.latch/`;
    const below = (part: string): KeyLife[] =>
      history.lives.filter(({ key }) => key.startsWith(prefix + part));
    this.#name = name;
    this.#latches = below('count');
    this.#counts = below('by/');
    this.#timeline = new Timeline(history, (revision) => {
      const latch = this.#latches.find((life) => wasAlive(life, revision));
      if (latch === undefined) return undefined;
      const count = valueOf(latch);
      const counted = this.#counts.filter((life) => wasAlive(life, revision)).map(valueOf);
      const { createRevision: created } = latch;
      return { count, created, left: Math.max(0, count - counted.reduce((a, b) => a + b, 0)) };
    });
    for (const life of this.#counts) this.#goesWithIt(life);
    for (const life of below('open')) {
      this.#goesWithIt(life);
      if (this.#timeline.at(life.createRevision)?.left !== 0)
        this.problems.push(`${life.key} was there at ${life.createRevision}, before the latch was open`);
    }
  }

  /** Checks what all did with it. */
  all(actors: readonly LatchActor[]): this {
    for (const actor of actors) {
      const ours = actor.calls.filter(({ of }) => of.name === this.#name);
      for (const call of ours) if (!this.#isRight(call)) this.#wrong(call);
    }
    return this;
  }

  /** Checks each count of an actor that counts by a step of its own. */
  counted(actor: LatchActor, step: number): void {
    const counts = actor.calls.filter(({ of, what }) => of.name === this.#name && what === 'countDown');
    if (counts.length > 0) this.#countedOnce(counts, step);
  }

  #isRight(call: LatchCall): boolean {
    const { what, error, about, since, before, after, of, value } = call;
    // Once it knows which latch it is about, it never tells of a later one.
    const known = about && this.#timeline.during(about).map((state) => state?.created);
    const all = this.#timeline.during(call);
    const states = all.filter((state) => known?.includes(state?.created) !== false);
    if (error === 'BROKEN') return this.#wasRemoved(since, after);
    if (error === 'MISMATCH') return all.some((state) => state !== undefined && state.count !== of.count);
    if (error !== undefined) return GIVEN_UP.test(error);
    switch (what) {
      case 'wait':
        return states.some((state) => state?.left === 0);
      case 'count':
        return states.some((state) => state?.left === value);
      case 'remove':
        return value === true
          ? this.#wasRemoved(before, after)
          : all.includes(undefined) || this.#wasRemoved(since, after);
      case 'countDown':
        return states.some((state) => state !== undefined);
    }
  }

  #wasRemoved(from: bigint, to: bigint): boolean {
    const ends = this.#latches.map((life) => life.deleteRevision ?? 0n);
    return ends.some((end) => end > from && end <= to);
  }

  /** Every call has counted once, or found the latch open; one that failed may have counted, once, or may do so later. */
  #countedOnce(calls: readonly LatchCall[], step: number): void {
    const made = this.#counts.filter((life) => valueOf(life) === step).map((life) => life.createRevision);
    let from = 0n;
    let unknown = 0;
    for (const call of calls) {
      const isKnown = call.error === undefined;
      if (!isKnown && call.error !== 'MISMATCH') unknown += 1;
      if (call.error === 'GONE') continue;
      const counted = made.filter((revision) => revision > from && revision <= call.after).length;
      if (isKnown && counted === 0 && !this.#timeline.during(call).some((state) => state?.left === 0))
        this.#wrong(call);
      unknown -= Math.max(0, counted - (isKnown ? 1 : 0));
      if (unknown < 0) {
        this.#wrong(call, `counted more than once by ${step}`);
        unknown = 0;
      }
      from = call.after;
    }
  }

  /** What is said of a latch goes when it is removed, and not before. */
  #goesWithIt({ key, createRevision, deleteRevision }: KeyLife): void {
    const latch = this.#latches.find((life) => wasAlive(life, createRevision));
    if (latch === undefined || latch.deleteRevision !== deleteRevision)
      this.problems.push(`${key} was there from ${createRevision} to ${deleteRevision}, without its latch`);
  }

  #wrong(call: LatchCall, what = ''): void {
    const { before, after, error, value, of } = call;
    const states = this.#timeline
      .during(call)
      .map((state) => (state === undefined ? 'nothing' : `${state.left} of ${state.count}`));
    this.problems.push(
      `${call.what} ${of.name} by ${of.actor}, a latch of ${of.count} since ${call.since}, told ${error ?? String(value)} from ${before} to ${after}, when there was [${states.join(', ')}] ${what}`,
    );
  }
}

/** What a key of a latch holds: none is ever written twice. */
function valueOf({ versions }: KeyLife): number {
  return versions.length === 1 ? Number(versions[0]?.string()) : NaN;
}
