/** What must be true of every run of locks, checked by revisions: never by the order in which the claims came in. */
import type { KeyValue } from 'conclave';

import { type History, type KeyLife, valueAt, wasAlive } from './history.js';
import type { Query } from './subjects/locks.js';

/** A hold that a worker was granted. */
export interface Claim {
  readonly key: string;
  readonly token: bigint;
  readonly kind: 'read' | 'write' | 'permit';
  readonly weight: number;
  /** How it came about; an upgrade goes ahead of those who wait. */
  readonly by: 'arrival' | 'campaign' | 'upgrade' | 'downgrade';
}

/** A write that a hold's guard let through. */
export interface Effect {
  readonly claim: Claim;
  readonly revision: bigint;
}

/** A claim and for how long it was so: until its key was deleted, or became another hold. */
interface Segment extends Claim {
  readonly line: string;
  readonly life: KeyLife;
  readonly end: bigint;
}

const FOREVER = 2n ** 63n;

function lineOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/'));
}

function json(kv: KeyValue | undefined): Record<string, unknown> {
  try {
    return kv?.json<Record<string, unknown>>() ?? {};
  } catch {
    return {};
  }
}

/** Checks a run, and collects what is wrong. */
export class LockChecks {
  readonly problems: string[] = [];
  readonly #history: History;
  readonly #segments: Segment[];

  constructor(history: History, claims: readonly Claim[]) {
    this.#history = history;
    const placed = claims.flatMap((claim) => {
      const life = history.at(claim.key, claim.token);
      if (life === undefined)
        this.problems.push(`${shown(claim)}: its key was not there at revision ${claim.token}`);
      return life === undefined ? [] : [{ claim, life }];
    });
    this.#segments = placed.map(({ claim, life }) => {
      const later = placed.filter((each) => each.life === life && each.claim.token > claim.token);
      // Whatever is written to the key makes another hold of it, also one that a killed process told nobody of. Only a
      // leader may write to its own.
      const rewritten = life.versions
        .map((kv) => kv.modRevision)
        .filter((revision) => revision > claim.token && claim.by !== 'campaign');
      const ends = [...later.map((each) => each.claim.token), ...rewritten, life.deleteRevision ?? FOREVER];
      return { ...claim, end: ends.reduce((a, b) => (a < b ? a : b)), life, line: lineOf(claim.key) };
    });
  }

  /** Runs all checks. */
  all(effects: readonly Effect[]): this {
    for (const segment of this.#segments) {
      this.#order(segment);
      this.#exclusion(segment);
      this.#token(segment);
    }
    for (const effect of effects) this.#effect(effect);
    return this;
  }

  /** Checks what a manager tells of all locks at a revision: whose, how, and in the order of the line. */
  query({ locks, revision }: Query): void {
    const there = this.#history.lives.filter((life) => !life.key.includes('.~') && wasAlive(life, revision));
    const expected = there.map((life) => {
      const mode = modeAt(life, revision);
      const held = this.#obstacle(life, mode, revision) === undefined;
      return `${life.key} ${mode === 'read' ? 'shared' : 'exclusive'} ${held ? 'held' : 'pending'}`;
    });
    const told = locks.map(({ key, mode, held }) => `${key} ${mode} ${held ? 'held' : 'pending'}`);
    for (const line of new Set(there.map(({ key }) => lineOf(key)))) {
      const [ours, theirs] = [expected, told].map((all) => all.filter((each) => lineOf(each) === line));
      if (String(ours) !== String(theirs))
        this.problems.push(`query at ${revision} told [${String(theirs)}], not [${String(ours)}]`);
    }
    if (told.length !== expected.length)
      this.problems.push(`query at ${revision} told ${told.length} locks, not ${expected.length}`);
  }

  /** Whoever was ahead in line, by create revision, was no obstacle when it was granted. */
  #order(segment: Segment): void {
    const { by, kind, life, token, line } = segment;
    if (kind === 'permit') {
      const ahead = this.#ahead(life, token);
      const used = ahead.reduce((sum, other) => sum + weightAt(other, token), segment.weight);
      const limit = this.#limitAt(line, token);
      if (used > limit) this.#wrong(segment, `granted although ${used} of ${limit} were asked for before`);
      return;
    }
    if (modeAt(life, token) !== kind)
      this.#wrong(segment, `its key says that it is a ${modeAt(life, token)}r`);
    const obstacle = this.#obstacle(life, kind, token, by !== 'downgrade');
    if (obstacle !== undefined) this.#wrong(segment, `granted past ${obstacle}`);
  }

  /** What keeps a reader or writer from holding as of a revision; undefined: nothing. */
  #obstacle(life: KeyLife, kind: 'read' | 'write', revision: bigint, arrives = true): string | undefined {
    const ahead = this.#ahead(life, revision);
    const other = kind === 'write' ? ahead[0] : ahead.find((each) => modeAt(each, revision) === 'write');
    if (other !== undefined) return other.key;
    // Readers that came after a request to upgrade wait.
    const request = this.#history.at(`${lineOf(life.key)}.~upgrade`, revision);
    if (kind === 'write' || !arrives || request === undefined || request.createRevision > life.createRevision)
      return undefined;
    const upgrader = this.#history.at(String(json(request.versions[0])['ticket']), revision);
    return upgrader && request.key;
  }

  #ahead(life: KeyLife, revision: bigint): KeyLife[] {
    const line = lineOf(life.key);
    return this.#history.lives.filter(
      (other) =>
        lineOf(other.key) === line &&
        !other.key.includes('.~') &&
        other.createRevision < life.createRevision &&
        wasAlive(other, revision),
    );
  }

  /** Nobody who held at that moment excludes it. */
  #exclusion(segment: Segment): void {
    const { token, line, kind } = segment;
    const holding = this.#segments.filter(
      (other) => other !== segment && other.line === line && other.token <= token && other.end > token,
    );
    const against = holding.find((other) => kind === 'write' || other.kind === 'write');
    if (against !== undefined) this.#wrong(segment, `granted while ${shown(against)} held`);
    if (kind !== 'permit') return;
    const used = holding.reduce((sum, other) => sum + other.weight, segment.weight);
    const limit = this.#limitAt(line, token);
    if (used > limit) this.#wrong(segment, `granted as the holders had ${used} of ${limit}`);
  }

  /** An exclusive hold's token is greater than those of all holds before it, and smaller than those of all after it. */
  #token(segment: Segment): void {
    if (segment.kind !== 'write') return;
    const { token, end, line } = segment;
    for (const other of this.#segments) {
      if (other === segment || other.line !== line) continue;
      if (other.token === token) this.#wrong(segment, `has the token of ${shown(other)}`);
      if (other.token > token && other.token < end) this.#wrong(segment, `held when ${shown(other)} began`);
    }
  }

  /** A guarded write happened while the hold lasted. */
  #effect({ claim, revision }: Effect): void {
    const segment = this.#segments.find(({ key, token }) => key === claim.key && token === claim.token);
    if (segment === undefined) return; // Told already.
    if (revision < segment.token || revision >= segment.end)
      this.#wrong(claim, `wrote at ${revision}, outside ${segment.token} to ${segment.end}`);
  }

  #limitAt(line: string, revision: bigint): number {
    const key = this.#history.at(`${line}.~limit`, revision);
    const { limit } = json(key === undefined ? undefined : valueAt(key, revision));
    return typeof limit === 'number' ? limit : 0;
  }

  #wrong(claim: Claim, what: string): void {
    this.problems.push(`${shown(claim)}: ${what}`);
  }
}

/** A key that says nothing of it is a writer's. */
function modeAt(life: KeyLife, revision: bigint): 'read' | 'write' {
  return json(valueAt(life, revision))['mode'] === 'read' ? 'read' : 'write';
}

function weightAt(life: KeyLife, revision: bigint): number {
  const { weight } = json(valueAt(life, revision));
  return typeof weight === 'number' ? weight : Infinity;
}

function shown({ kind, key, token, by }: Claim): string {
  return `${kind} ${key} (token ${token}, by ${by})`;
}
