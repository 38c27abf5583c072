/** What must be true of every run of a job queue, checked by revisions. */
import { type History, type KeyLife, valueAt, wasAlive } from './history.js';
import type { HandIn, QueueActor } from './queue-actor.js';
import { type JobLife, readJobs, type Stay } from './queue-jobs.js';
import type { Claimed, Way } from './subjects/queue.js';
import type { Outcome } from './window.js';

/** A claimed job, and what became of it then; undefined: it was done. */
interface Turn {
  readonly id: string;
  readonly stay: Stay;
  readonly next: Stay | undefined;
}

/** How many numbers there are for each transaction that appends. */
const STRIDE = 128;
/** How many jobs a worker takes at once: one for each actor of its session. */
const CONCURRENCY = 2;
/** What a call may end with whatever became of it. */
const GIVEN_UP = /^(GONE|SESSION_LOST|LEASE_NOT_FOUND|UNKNOWN_OUTCOME)$/;

/** Checks a run, and collects what is wrong. */
export class QueueChecks {
  readonly problems: string[] = [];
  readonly #history: History;
  readonly #root: string;
  readonly #jobs: readonly JobLife[];
  /** By token. */
  readonly #turns = new Map<string, Turn>();
  readonly #handIns = new Map<string, HandIn>();

  constructor(history: History, name: string) {
    this.#history = history;
    this.#root = `${name}/.queue/`;
    this.#jobs = readJobs(history, this.#root, this.problems);
    for (const { id, stays } of this.#jobs) {
      for (const [at, stay] of stays.entries())
        if (stay.state === 'active')
          this.#turns.set(tokenOf(id, stay.from), { id, next: stays[at + 1], stay });
    }
  }

  /** Checks what all did. A job's effect is written to `effects` and its id. */
  all(actors: readonly QueueActor[], effects: string): this {
    for (const handIn of actors.flatMap((actor) => actor.handIns))
      this.#handIns.set(tokenOf(handIn.claim.id, handIn.claim.token), handIn);
    for (const job of this.#jobs) this.#job(job);
    for (const actor of actors) {
      for (const push of actor.pushes) this.#push(push);
      for (const claim of actor.claims) this.#claim(claim);
    }
    for (const handIn of this.#handIns.values()) this.#handIn(handIn, effects);
    for (const life of this.#history.lives.filter(({ key }) => key.startsWith(effects)))
      this.#effect(life, life.key.slice(effects.length));
    this.#order(actors);
    if (this.overtaken > this.reach)
      this.problems.push(`a job was overtaken by ${this.overtaken} others, more than ${this.reach}`);
    return this;
  }

  /** By how many others of its priority a job was overtaken at most while it waited. */
  get overtaken(): number {
    const claims = [...this.#turns.values()];
    const waits = this.#jobs.flatMap(({ stays }) => stays.filter(({ state }) => state === 'waiting'));
    const counts = waits.map(({ from, to = from, number, priority }) => {
      const others = claims.filter(({ stay }) => stay.priority === priority && stay.number > number);
      return new Set(others.filter(({ stay }) => stay.from > from && stay.from <= to).map(({ id }) => id))
        .size;
    });
    return Math.max(0, ...counts);
  }

  /** By how many it may be: two blocks of each worker, and one more. */
  get reach(): number {
    const workers = this.#history.lives.filter(({ key }) => key.startsWith(`${this.#root}control/worker/`));
    const most = Math.max(
      0,
      ...workers.map(({ createRevision }) => workers.filter((life) => wasAlive(life, createRevision)).length),
    );
    return (2 * most + 1) * CONCURRENCY;
  }

  /** From its push to its removal it is in exactly one state, and goes from each to one that may follow. */
  #job({ id, from, to, stays }: JobLife): void {
    let at: bigint | undefined = from;
    for (const [which, stay] of stays.entries()) {
      if (stay.from !== at) this.#wrong(id, `is ${stay.state} at ${stay.from}, not at ${at}`);
      at = stay.to;
      const next = stays[which + 1];
      if (!this.#mayFollow(id, stay, next)) this.#wrong(id, `went from ${shown(stay)} to ${shown(next)}`);
    }
    if (at !== to) this.#wrong(id, `left its last state at ${at}, and was removed at ${to}`);
  }

  #mayFollow(id: string, stay: Stay, next: Stay | undefined): boolean {
    const { attempts, maxAttempts } = stay;
    const isLast = attempts >= maxAttempts;
    if (stay.state === 'waiting') return next?.state === 'active' && next.attempts === attempts + 1;
    if (stay.state === 'delayed') return next?.state === 'waiting' && next.attempts === attempts;
    if (stay.state === 'dead') return next === undefined;
    const way = this.#handIns.get(tokenOf(id, stay.from))?.way;
    // What nobody asked for is done to the jobs of workers that are gone alone.
    const isAsked = way !== undefined || !this.#worked(stay.member, (stay.to ?? 0n) - 1n);
    switch (next?.state) {
      case undefined:
        // It is done for its worker alone, while that is there.
        return stay.to === undefined || this.#worked(stay.member, stay.to - 1n);
      case 'dead':
        return next.attempts === attempts && isAsked && (isLast || way === 'bury');
      case 'delayed':
        return next.attempts === attempts && !isLast && way === 'nack';
      case 'waiting':
        return next.attempts === attempts ? isAsked && !isLast : next.attempts === attempts - 1;
      case 'active':
        return false;
    }
  }

  #worked(member: string, revision: bigint): boolean {
    return this.#history.at(`${this.#root}control/worker/${member}`, revision) !== undefined;
  }

  #push({ items, outcome }: QueueActor['pushes'][number]): void {
    const { before, after, error, value } = outcome;
    if (error !== undefined && !GIVEN_UP.test(error)) this.problems.push(`push failed with ${error}`);
    for (const [at, { id }] of items.entries()) {
      const lives = this.#jobs.filter((job) => job.id === id && job.from <= after);
      const isThere = value?.[at]
        ? lives.some(({ to }) => to === undefined || to > before)
        : lives.some(({ from }) => from > before);
      if (value !== undefined && !isThere)
        this.#wrong(
          id,
          `was pushed from ${before} to ${after} (${value[at] ? 'again' : 'anew'}), and is not there`,
        );
    }
  }

  #claim({ attempt, id, token }: Claimed): void {
    const turn = this.#turns.get(tokenOf(id, token));
    if (turn?.stay.attempts !== attempt)
      this.#wrong(id, `was claimed at ${token} for attempt ${attempt}, and is ${shown(turn?.stay)}`);
    const pause = this.#history.at(`${this.#root}control/paused`, token);
    const value = pause === undefined ? undefined : valueAt(pause, token)?.string();
    if (value !== undefined && value !== 'running') this.#wrong(id, `was claimed at ${token}, in a pause`);
  }

  #handIn({ claim: { id, token }, way, outcome }: HandIn, effects: string): void {
    const { before, after, error } = outcome;
    const turn = this.#turns.get(tokenOf(id, token));
    if (turn === undefined || (error !== undefined && GIVEN_UP.test(error))) return;
    const { next, stay } = turn;
    const { to = 0n } = stay;
    const isOver = to > before && to <= after;
    const isSo = isOver && becomes(way, stay, next);
    const isRefused = error === 'NOT_HELD' && !(isOver && next === undefined);
    if (error === undefined ? !isSo : !isRefused)
      this.#wrong(
        id,
        `${way} told ${error ?? 'done'} from ${before} to ${after}; ${shown(stay)} became ${shown(next)} at ${to}`,
      );
    const written = this.#history
      .at(effects + id, to)
      ?.versions.some(({ modRevision }) => modRevision === to);
    if (way === 'commit' && error === undefined && written !== true)
      this.#wrong(id, 'was committed without its effect');
  }

  /** What a commit writes is written with the end of a claim, once. */
  #effect({ versions }: KeyLife, id: string): void {
    const ends = this.#jobs.filter((job) => job.id === id).map(({ to }) => to);
    for (const { modRevision } of versions)
      if (!ends.includes(modRevision))
        this.#wrong(id, `had its effect at ${modRevision}, and was not done then`);
  }

  /**
   * A number names how often had been appended to its priority when it was given out. That was before its job was stored
   * (so whatever is pushed later comes behind it), and after its push was called, or after it was delayed (so it comes
   * behind whatever had been appended before).
   */
  #order(actors: readonly QueueActor[]): void {
    const called = new Map<string, bigint>();
    for (const { items, outcome } of actors.flatMap(({ pushes }) => pushes)) {
      for (const { id } of items) if (!called.has(id)) called.set(id, outcome.before);
      this.#orderOf(items, outcome);
    }
    for (const { id, stays } of this.#jobs) {
      for (const [at, stay] of stays.entries()) {
        const previous = stays[at - 1];
        if (stay.state !== 'waiting' || previous?.state === 'active') continue;
        const after = previous?.from ?? called.get(id) ?? 0n;
        const seen = Math.floor(stay.number / STRIDE);
        const [least, most] = [after, stay.from - 1n].map((revision) => this.#appends(stay, revision));
        if (seen < (least ?? 0) || seen > (most ?? 0))
          this.#wrong(id, `has a number of ${seen}, not from ${least} to ${most}: ${shown(stay)}`);
      }
    }
  }

  /** How often had been appended to its priority, as of a revision. */
  #appends({ priority }: Stay, revision: bigint): number {
    const life = this.#history.at(`${this.#root}control/tail-sequence/${priority}`, revision);
    return life === undefined ? 0 : Number(valueAt(life, revision)?.version ?? 0);
  }

  /** Jobs that are pushed by one call are in its order. */
  #orderOf(
    items: QueueActor['pushes'][number]['items'],
    { before, value }: Outcome<readonly boolean[]>,
  ): void {
    const last = new Map<string, number>();
    for (const [at, { id }] of items.entries()) {
      const stay = this.#jobs.find((job) => job.id === id && job.from > before)?.stays[0];
      if (value?.[at] !== false || stay?.state !== 'waiting') continue;
      if (stay.number <= (last.get(stay.priority) ?? -1))
        this.#wrong(id, `${shown(stay)} is not in its push's order`);
      last.set(stay.priority, stay.number);
    }
  }

  #wrong(id: string, what: string): void {
    this.problems.push(`${id} ${what}`);
  }
}

/** Whether what became of a claimed job is what was asked for. */
function becomes(way: Way, { attempts, maxAttempts }: Stay, next: Stay | undefined): boolean {
  const isDead = next?.state === 'dead';
  switch (way) {
    case 'ack':
    case 'commit':
      return next === undefined;
    case 'nack':
      return attempts >= maxAttempts ? isDead : next?.state === 'delayed';
    case 'nack now':
      return attempts >= maxAttempts ? isDead : next?.state === 'waiting' && next.attempts === attempts;
    case 'bury':
      return isDead;
    case 'release':
      return next?.state === 'waiting' && next.attempts === attempts - 1;
  }
}

function tokenOf(id: string, token: bigint): string {
  return `${id} ${token}`;
}

function shown(stay: Stay | undefined): string {
  if (stay === undefined) return 'nothing';
  return `${stay.state} ${stay.priority}/${stay.number} (${stay.attempts} of ${stay.maxAttempts}, from ${stay.from})`;
}
