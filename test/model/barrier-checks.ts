/** What must be true of every run of a barrier, checked by revisions. */
import type { KeyValue } from 'conclave';

import { type Attempt, type BarrierActor, BarrierHolder, BarrierWaiter } from './barrier-actor.js';
import { type History, valueAt } from './history.js';
import type { Mode } from './subjects/barrier.js';
import { Timeline } from './timeline.js';
import type { Outcome, Window } from './window.js';

/** How a barrier was as of a revision. */
interface Was {
  readonly state: 'open' | 'held' | 'broken';
  /** The revision at which it was closed; 0n: it is open. */
  readonly token: bigint;
}

const OPEN: Was = { state: 'open', token: 0n };
/** What a call may end with whatever the barrier was meanwhile. */
const GIVEN_UP = /^(GONE|TimeoutError|SESSION_LOST|LEASE_NOT_FOUND)/;

/** Checks a run, and collects what is wrong. */
export class BarrierChecks {
  readonly problems: string[] = [];
  readonly #history: History;
  readonly #keys: { readonly held: string; readonly holder: string };
  readonly #timeline: Timeline<Was>;
  readonly #tokens = new Set<bigint>();

  constructor(history: History, name: string) {
    this.#history = history;
    this.#keys = { held: `${name}/.barrier/held`, holder: `${name}/.barrier/holder` };
    this.#timeline = new Timeline(history, (revision) => this.#read(revision));
  }

  /** Checks what all of them did; `last` is the reset at the end. */
  all(actors: readonly BarrierActor[], last: Outcome<boolean>): this {
    const resets = [...actors.flatMap((actor) => actor.resets), last];
    this.#closedOnce();
    const holders = actors.filter((actor) => actor instanceof BarrierHolder);
    for (const seen of actors.flatMap((actor) => actor.inspections)) {
      if (!this.#was(seen, ({ state }) => state === seen.value) && seen.error !== 'GONE')
        this.#wrong('inspected', seen);
    }
    for (const reset of resets) this.#reset(reset);
    for (const actor of actors) if (actor instanceof BarrierWaiter) this.#waiter(actor);
    for (const holder of holders) this.#holder(holder);
    const releases = holders.flatMap((holder) => holder.releases);
    for (const { mode, value } of holders.flatMap(({ attempts }) => attempts)) {
      if (value === undefined) continue;
      const { token } = value;
      const own = releases.filter((release) => release.token === token).map(({ outcome }) => outcome);
      this.#opening(token, mode, [...own, ...resets]);
    }
    return this;
  }

  /** Each attempt writes something of its own, once: what is there again is held by nobody. */
  #closedOnce(): void {
    const written = this.#history.lives
      .filter(({ key }) => key === this.#keys.held)
      .flatMap(({ versions }) => versions);
    const seen = new Set<unknown>();
    for (const kv of written) {
      const { id } = said(kv);
      if (seen.has(id))
        this.problems.push(`what ${String(id)} had closed was closed again at ${kv.modRevision}`);
      seen.add(id);
    }
  }

  #reset(reset: Outcome<boolean>): void {
    if (reset.error === 'GONE') return;
    const [, ...since] = this.#timeline.during(reset);
    if (reset.value === true ? !since.some(isOpen) : !this.#was(reset, isOpen)) this.#wrong('reset', reset);
  }

  /** Nobody opened what was closed at `token` but who was asked to. */
  #opening(token: bigint, mode: Mode, by: readonly Outcome[]): void {
    const life = this.#history.at(this.#keys.held, token);
    const wasTakenOver = life?.versions.some(({ modRevision }) => modRevision > token);
    const end = life?.deleteRevision;
    // Held with 'open', it goes with its holder, too.
    if (wasTakenOver || end === undefined || mode === 'open') return;
    if (!by.some(({ before, after, error }) => error !== 'NOT_HELD' && before < end && end <= after))
      this.problems.push(`what was closed at ${token} was opened at ${end} by nobody`);
  }

  #waiter({ waits }: BarrierWaiter): void {
    for (const wait of waits) {
      const { error } = wait;
      if (error === undefined ? this.#was(wait, isOpen) : GIVEN_UP.test(error)) continue;
      if (error === 'BROKEN' && this.#was(wait, ({ state }) => state === 'broken')) continue;
      this.#wrong('waited', wait);
    }
  }

  #holder({ attempts, effects, releases }: BarrierHolder): void {
    for (const attempt of attempts) this.#attempt(attempt);
    for (const { outcome, token } of releases) {
      if (outcome.error === 'NOT_HELD' || outcome.error === 'GONE') continue;
      if (outcome.error !== undefined || this.#timeline.at(outcome.after)?.token === token)
        this.#wrong(`released ${token}`, outcome);
    }
    for (const { revision, token } of effects) {
      const was = this.#timeline.at(revision);
      if (was?.token !== token || was.state !== 'held')
        this.problems.push(`wrote at ${revision} under ${token}, when it was ${shown(was)}`);
    }
  }

  #attempt(attempt: Attempt): void {
    const { error, value } = attempt;
    if (value !== undefined) {
      this.#closed(attempt, value.token, value.leaseId);
    } else if (error === 'ALREADY_HELD') {
      if (!this.#was(attempt, ({ state }) => state === 'held')) this.#wrong('refused', attempt);
    } else if (error === undefined || !GIVEN_UP.test(error)) {
      this.#wrong('held', attempt);
    } else if (error.startsWith('TimeoutError')) {
      const left = this.#value(this.#keys.held, attempt.after);
      // Each session has one holder, so what says its name is what it wrote.
      const isOurs = attempt.by !== undefined && said(left)['label'] === attempt.by;
      if (left !== undefined && isOurs && left.modRevision > attempt.before)
        this.#wrong(`left ${left.modRevision} behind`, attempt);
    }
  }

  /** It was closed at the token's revision, when nobody held it, and as its mode asks for. */
  #closed({ mode, ...outcome }: Attempt, token: bigint, leaseId: bigint | undefined): void {
    if (this.#tokens.has(token)) this.#wrong('closed twice', outcome);
    this.#tokens.add(token);
    const before = this.#timeline.at(token - 1n);
    if (before?.state === 'held') this.#wrong(`closed although it was ${shown(before)}`, outcome);
    const held = this.#value(this.#keys.held, token);
    const holder = this.#value(this.#keys.holder, token);
    if (held?.modRevision !== token) this.#wrong('not closed', outcome);
    const leases = { break: [undefined, leaseId], open: [leaseId], stay: [undefined] }[mode];
    const keys = holder?.modRevision === token ? [held, holder] : [held];
    const bound = keys.map((key) => key?.leaseId);
    if (String(bound) !== String(leases))
      this.#wrong(`closed (${mode}) with leases [${String(bound)}]`, outcome);
  }

  #read(revision: bigint): Was {
    const held = this.#value(this.#keys.held, revision);
    if (held === undefined) return OPEN;
    const token = held.modRevision;
    const lives = this.#value(this.#keys.holder, revision)?.modRevision === token;
    return { state: said(held)['ifHolderDies'] === 'break' && !lives ? 'broken' : 'held', token };
  }

  #value(key: string, revision: bigint): KeyValue | undefined {
    const life = this.#history.at(key, revision);
    return life && valueAt(life, revision);
  }

  #was(window: Window, fits: (was: Was) => boolean): boolean {
    return this.#timeline.during(window).some(fits);
  }

  #wrong(what: string, { before, after, value, error }: Outcome): void {
    const states = this.#timeline.during({ after, before }).map(shown).join(', ');
    this.problems.push(
      `${what} with ${String(error?.split('\n')[0] ?? value)} from ${before} to ${after}, when it was ${states}`,
    );
  }
}

function isOpen({ state }: Was): boolean {
  return state === 'open';
}

function said(kv: KeyValue | undefined): Record<string, unknown> {
  return kv?.json<Record<string, unknown>>() ?? {};
}

function shown(was: Was | undefined): string {
  return was === undefined ? 'nothing' : `${was.state} (${was.token})`;
}
