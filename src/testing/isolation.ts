/**
 * A checker of isolation: whether what transactions saw and did can be, by the history of the keys.
 *
 * etcd numbers its states, and each commit makes one. So the serial order to be found is known: that of the commits'
 * revisions. A transaction that wrote is serializable if all that it read (keys, keys that were absent, and ranges, with
 * what was not in them) is as it was just before its commit; one that only read, if all is as it was at one revision.
 */

/** One change of a key, as a watch tells it. */
export interface KeyChange {
  readonly key: string;
  /** The revision that it made; several changes of one commit share it. */
  readonly revision: bigint;
  /** Undefined: it was deleted. */
  readonly value: string | undefined;
}

/** One key that was read; a modRevision of 0n: it was absent. */
export interface KeySeen {
  readonly key: string;
  readonly modRevision: bigint;
}

/** A range that was read, from `start` up to `end`, `end` excluded, and all that was in it. */
export interface RangeSeen {
  readonly start: string;
  readonly end: string;
  readonly found: readonly KeySeen[];
}

/** One attempt of a transaction, as its caller saw it. */
export interface Observed {
  /** Who it is, in what the checker says. */
  readonly name: string;
  /** What its level promises: all reads of one state (`snapshot`), each of its own (`repeatable`), or only committed ones. */
  readonly level: 'snapshot' | 'repeatable' | 'committed';
  readonly gets: readonly KeySeen[];
  readonly ranges: readonly RangeSeen[];
  /** What it was to write; no two transactions write the same value. Undefined: it deletes the key. */
  readonly writes: readonly { readonly key: string; readonly value: string | undefined }[];
  /**
   * What became of it: committed, at the revision of its writes, or of its reads if it wrote nothing (0n: none is told);
   * certainly not; or nobody knows.
   */
  readonly outcome:
    { readonly is: 'committed'; readonly revision: bigint } | { readonly is: 'void' | 'unknown' };
}

/** Says what cannot be, transaction by transaction; nothing if all of it can. `history`: every change, in order. */
export function checkIsolation(history: readonly KeyChange[], all: readonly Observed[]): string[] {
  const states = new States(history);
  const problems = all.flatMap((one) => problemsOf(one, states).map((problem) => `${one.name} ${problem}`));
  return [...problems, ...foreignWrites(states, all)];
}

/** The states that a history has gone through. */
class States {
  readonly revisions: readonly bigint[];
  readonly #byKey = new Map<string, KeyChange[]>();
  readonly #byRevision = new Map<bigint, KeyChange[]>();
  readonly #byValue = new Map<string, bigint[]>();

  constructor(history: readonly KeyChange[]) {
    for (const change of history) {
      append(this.#byKey, change.key, change);
      append(this.#byRevision, change.revision, change);
      if (change.value !== undefined) append(this.#byValue, change.value, change.revision);
    }
    // 0n: before all of it.
    this.revisions = [0n, ...this.#byRevision.keys()];
  }

  /** What was made at a revision. */
  made(revision: bigint): readonly KeyChange[] {
    return this.#byRevision.get(revision) ?? [];
  }

  /** At which revisions a value was written. */
  written(value: string): readonly bigint[] {
    return this.#byValue.get(value) ?? [];
  }

  /** The revision of the last write of a key as of a revision; 0n: it was absent. */
  at(key: string, revision: bigint): bigint {
    const last = this.#byKey.get(key)?.findLast((change) => change.revision <= revision);
    return last?.value === undefined ? 0n : last.revision;
  }

  /** Whether a key was ever written at this revision, or may have been absent. */
  wasEver({ key, modRevision }: KeySeen): boolean {
    if (modRevision === 0n) return true;
    return this.made(modRevision).some((change) => change.key === key && change.value !== undefined);
  }

  /** What differs between a range as it was read and as it was at a revision. */
  rangeDiffers({ start, end, found }: RangeSeen, revision: bigint): string | undefined {
    for (const seen of found) {
      const was = this.at(seen.key, revision);
      if (was !== seen.modRevision)
        return `${seen.key} of ${String(seen.modRevision)} in it, not of ${String(was)}`;
    }
    const names = new Set(found.map(({ key }) => key));
    for (const key of this.#byKey.keys()) {
      const inside = key >= start && key < end && !names.has(key);
      if (inside && this.at(key, revision) !== 0n) return `${key} not in it`;
    }
    return undefined;
  }
}

function problemsOf(one: Observed, states: States): string[] {
  const problems =
    one.outcome.is === 'committed' ? committed(one, one.outcome.revision, states) : unsettled(one, states);
  const seen = [...one.gets, ...one.ranges.flatMap(({ found }) => found)];
  for (const each of seen)
    if (!states.wasEver(each)) problems.push(`saw ${shown(each)}, which nobody committed`);
  // A function must not see what never was, also when nothing comes of it.
  if (
    one.level === 'snapshot' &&
    !states.revisions.some((revision) => misfit(one, revision, states) === undefined)
  ) {
    problems.push('saw what was never there at one time');
  }
  return problems;
}

/** What is wrong with one that was told to be committed at `revision`. */
function committed(one: Observed, revision: bigint, states: States): string[] {
  if (one.writes.length === 0) {
    if (one.level === 'committed' || revision === 0n) return [];
    const wrong = misfit(one, revision, states);
    return wrong === undefined ? [] : [`is of ${String(revision)}, and saw ${wrong}`];
  }
  const problems: string[] = [];
  const wrong = one.level === 'committed' ? undefined : misfit(one, revision - 1n, states);
  if (wrong !== undefined) problems.push(`was committed at ${String(revision)}, and saw ${wrong}`);
  const made = states.made(revision);
  for (const { key, value } of one.writes) {
    // To delete what is absent is no change.
    const isThere = made.some((change) => change.key === key && change.value === value);
    if (!isThere && !(value === undefined && states.at(key, revision) === 0n))
      problems.push(`was committed at ${String(revision)} without its write of ${key}`);
    if (value !== undefined && states.written(value).length > 1) problems.push(`wrote ${key} twice`);
  }
  for (const { key } of made)
    if (!one.writes.some((write) => write.key === key))
      problems.push(
        `was committed at ${String(revision)} together with a write of ${key}, which is not its own`,
      );
  return problems;
}

/** What is wrong with one that was not told to be committed. */
function unsettled(one: Observed, states: States): string[] {
  const puts = one.writes.filter(({ value }) => value !== undefined);
  const times = puts.map(({ value = '' }) => states.written(value));
  const revisions = new Set(times.flat());
  if (one.outcome.is === 'void')
    return revisions.size === 0 ? [] : ['was said not to be committed, and wrote'];
  if (revisions.size === 0) return [];
  const [revision = 0n] = revisions;
  if (revisions.size > 1 || times.some(({ length }) => length !== 1))
    return ['was committed in parts, or twice'];
  return committed(one, revision, states);
}

/** What of its reads was not so as of a revision, as far as its level says that it must have been. */
function misfit({ gets, level, ranges }: Observed, revision: bigint, states: States): string | undefined {
  for (const seen of gets) {
    const was = states.at(seen.key, revision);
    if (was !== seen.modRevision) return `${shown(seen)}, when it was of ${String(was)}`;
  }
  for (const range of ranges) {
    // Only what it found is kept as it was; keys may have come.
    const known = level === 'snapshot' ? range : { ...range, end: range.start };
    const differs = states.rangeDiffers(known, revision);
    if (differs !== undefined) return `${range.start}..${range.end} with ${differs}`;
  }
  return undefined;
}

/** What was written by none of them. */
function foreignWrites(states: States, all: readonly Observed[]): string[] {
  const values = new Set(all.flatMap(({ writes }) => writes.map(({ value }) => value)));
  const foreign = states.revisions
    .flatMap((revision) => states.made(revision))
    .filter(({ value }) => !values.has(value));
  return foreign.map(({ key, revision }) => `${key} was written at ${String(revision)} by none of them`);
}

function shown({ key, modRevision }: KeySeen): string {
  return modRevision === 0n ? `${key} absent` : `${key} of ${String(modRevision)}`;
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const there = map.get(key);
  if (there === undefined) map.set(key, [value]);
  else there.push(value);
}
