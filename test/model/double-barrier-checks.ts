/** What must be true of every run of a double barrier, checked by revisions. */
import type { Party } from './double-barrier-actor.js';
import { type History, type KeyLife, wasAlive } from './history.js';
import type { Entry } from './subjects/double-barrier.js';
import type { Outcome } from './window.js';

/** A round that was declared full. */
interface Round {
  /** Its number: the create revision of the last of its parties. */
  readonly revision: bigint;
  readonly declaredAt: bigint;
  readonly parties: readonly KeyLife[];
}

const GIVEN_UP = /^(GONE|TimeoutError|SESSION_LOST|LEASE_NOT_FOUND)/;

/** Checks a run, and collects what is wrong. */
export class DoubleBarrierChecks {
  readonly problems: string[] = [];
  readonly rounds: readonly Round[];
  readonly #history: History;
  readonly #prefix: string;
  readonly #count: number;
  readonly #parties: readonly KeyLife[];

  constructor(history: History, name: string, count: number) {
    this.#history = history;
    this.#prefix = `${name}/.double-barrier/`;
    this.#count = count;
    this.#parties = history.lives.filter(({ key }) => key.startsWith(`${this.#prefix}party/`));
    this.rounds = this.#readRounds();
    // A party's key is made once: what comes back is nobody's.
    for (const [at, { createRevision, key }] of this.#parties.entries()) {
      if (this.#parties.findIndex((life) => life.key === key) < at)
        this.problems.push(`${key} was there again at ${createRevision}`);
    }
  }

  all(actors: readonly Party[]): this {
    for (const { entries, exits } of actors) {
      for (const entry of entries) this.#entry(entry);
      for (const { entry, outcome } of exits) this.#exit(entry, outcome);
    }
    return this;
  }

  /** Every round, each checked: its parties were there at one revision, and nobody of an earlier round was. */
  #readRounds(): Round[] {
    const rounds: Round[] = [];
    // What was said of rounds last changed then; a round is declared on a view that is not older.
    let saidAt = 0n;
    for (const life of this.#history.lives.filter(({ key }) => key === `${this.#prefix}ready`)) {
      let latest = 0n;
      for (const kv of life.versions) {
        const { modRevision: declaredAt } = kv;
        const revision = BigInt(kv.string().split(' ')[1] ?? 0);
        if (revision > latest) rounds.push(this.#round({ declaredAt, revision, saidAt }, rounds.at(-1)));
        latest = revision;
        saidAt = declaredAt;
      }
      saidAt = life.deleteRevision ?? saidAt;
    }
    return rounds;
  }

  #round(said: Omit<Round, 'parties'> & { readonly saidAt: bigint }, before: Round | undefined): Round {
    const { declaredAt, revision, saidAt } = said;
    const earlier = before?.revision ?? 0n;
    if (revision <= earlier) this.problems.push(`round ${revision} came after ${earlier}`);
    const from = revision > saidAt ? revision : saidAt;
    const views = this.#history.revisions.filter((each) => each >= from && each < declaredAt);
    for (const view of views) {
      const there = this.#parties.filter((life) => life.createRevision <= revision && wasAlive(life, view));
      if (there.length === this.#count && there.every((life) => life.createRevision > earlier))
        return { declaredAt, parties: there, revision };
    }
    this.problems.push(
      `round ${revision} was declared at ${declaredAt}, never with ${this.#count} parties since ${from}`,
    );
    return { declaredAt, parties: [], revision };
  }

  #entry(entry: Entry): void {
    const { before, after, error, leaseId, value } = entry;
    const [party, ...more] = this.#parties.filter(
      ({ createRevision, key }) =>
        key.startsWith(`${this.#prefix}party/${leaseId.toString(16)}-`) &&
        createRevision > before &&
        createRevision <= after,
    );
    if (more.length > 0) this.#wrong('has two keys', entry);
    if (value !== undefined) {
      const round = this.rounds.find(({ revision }) => revision === value);
      if (round === undefined || party === undefined || !round.parties.includes(party))
        this.#wrong('is no party of that round', entry);
      else if (round.declaredAt <= before || round.declaredAt > after)
        this.#wrong(`entered a round that was declared at ${round.declaredAt}`, entry);
    } else if (error === 'TICKET_LOST') {
      // Its lease was revoked, and its session has not heard of that yet.
      if ((party?.deleteRevision ?? after + 1n) > after) this.#wrong('did not lose its key', entry);
    } else if (error === undefined || !GIVEN_UP.test(error)) {
      this.#wrong('failed', entry);
    } else if (party !== undefined && error.startsWith('TimeoutError')) {
      if ((party.deleteRevision ?? after + 1n) > after) this.#wrong('left its key behind', entry);
      const late = this.rounds.find((round) => round.declaredAt > after && round.parties.includes(party));
      if (late !== undefined) this.#wrong(`is in round ${late.revision} all the same`, entry);
    }
  }

  #exit({ value: round = 0n }: Entry, exit: Outcome): void {
    const { after, error } = exit;
    if (error !== undefined) {
      if (!GIVEN_UP.test(error) && error !== 'NOT_HELD') this.#wrong(`could not leave ${round}`, exit);
      return;
    }
    const inside = this.#parties.find((life) => life.createRevision <= round && wasAlive(life, after));
    if (inside !== undefined) this.#wrong(`left ${round} when ${inside.key} was inside`, exit);
  }

  #wrong(what: string, { before, after, error, value }: Outcome): void {
    this.problems.push(`${what}: ${error?.split('\n')[0] ?? String(value)} from ${before} to ${after}`);
  }
}
