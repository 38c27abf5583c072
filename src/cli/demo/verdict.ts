/** What the demo's evidence proves. A pure function, so that it can be seen to find each violation. */

/** A record as it is in the store at the end. */
export interface StoredRecord {
  readonly number: number;
  readonly worker: string;
  readonly token: bigint;
  /** When it was last written. */
  readonly revision: bigint;
}

/** A write that etcd confirmed to a worker. */
export interface Acknowledged {
  readonly number: number;
  readonly token: bigint;
  readonly revision: bigint;
  /** When the worker last saw that it led, before it sent the write; in milliseconds of the machine's clock. */
  readonly heldAt: number;
}

/** A term as the worker that had it saw it. */
export interface LedTerm {
  readonly token: bigint;
  readonly worker: string;
  /** When it was told that it leads, in milliseconds of the machine's clock. */
  readonly from: number;
}

/** A write tried by a worker that had lost its term, and what etcd said to it. */
export interface LateWrite {
  readonly token: bigint;
  readonly accepted: boolean;
  /** Of etcd's answer: the write's own, if it was accepted. */
  readonly revision: bigint;
}

/** Such a write that is in the store. */
export type LandedWrite = Pick<LateWrite, 'token' | 'revision'>;

/** What one run of a job wrote. */
export interface Effect {
  readonly jobId: string;
  /** The claim's fencing token: another run of the same job has another. */
  readonly token: bigint;
}

/** How a leader was lost. */
export type Loss = 'resign' | 'crash' | 'freeze';

export const LOSSES: readonly Loss[] = ['resign', 'crash', 'freeze'];

export interface Evidence {
  readonly stored: readonly StoredRecord[];
  readonly acknowledged: readonly Acknowledged[];
  readonly led: readonly LedTerm[];
  readonly late: readonly LateWrite[];
  readonly lateStored: readonly LandedWrite[];
  /** The jobs that etcd confirmed to be in the queue. */
  readonly pushed: readonly string[];
  readonly effects: readonly Effect[];
  readonly handoverMs: Readonly<Partial<Record<Loss, number>>>;
  /** What kept the run from going its way. */
  readonly troubles: readonly string[];
}

export interface Verdict {
  readonly ok: boolean;
  /** Terms in which at least one record was written. */
  readonly terms: number;
  readonly records: number;
  /** Pairs of terms that were held at the same time, by the store's revisions or by the machine's clock. */
  readonly overlaps: number;
  /** Confirmed to a worker but not in the store as it was confirmed, and numbers left out. */
  readonly lostRecords: number;
  /** Records of a term after a record of a later term, and late writes that landed in a later term. */
  readonly staleWritesAccepted: number;
  /** Late writes that were tried, refused by etcd, and are not in the store. */
  readonly staleWritesRejected: number;
  /** Jobs confirmed to be in the queue. */
  readonly jobs: number;
  /** Those of them without an effect. */
  readonly jobsLost: number;
  /** Jobs with more than one effect. */
  readonly jobsTwice: number;
  /** Each violation in words. */
  readonly problems: readonly string[];
}

const LEAST_TERMS = 4;

/** Judges a run by what is in the store and what the workers reported. */
export function judge(evidence: Evidence): Verdict {
  const overlaps = [...new Set([...overlapsInStore(evidence), ...overlapsInTime(evidence)])];
  const lost = lostRecords(evidence);
  const accepted = staleAccepted(evidence);
  const landed = new Set(evidence.lateStored.map(({ token }) => token));
  const staleWritesRejected = evidence.late.filter(
    ({ accepted, token }) => !accepted && !landed.has(token),
  ).length;
  const terms = new Set(evidence.stored.map(({ token }) => token)).size;
  const jobs = new Set(evidence.pushed);
  const jobsLost = lostJobs(evidence);
  const jobsTwice = jobsDoneTwice(evidence);
  const problems = [...evidence.troubles, ...overlaps, ...lost, ...accepted, ...jobsLost, ...jobsTwice];
  if (jobs.size === 0) problems.push('no job was pushed');
  if (terms < LEAST_TERMS) problems.push(`${terms} terms in the store, not ${LEAST_TERMS}`);
  if (staleWritesRejected === 0) problems.push('no late write was tried and rejected');
  for (const loss of LOSSES) {
    const ms = evidence.handoverMs[loss];
    if (ms === undefined) problems.push(`no handover after a ${loss} was seen`);
    else if (!(ms >= 0)) problems.push(`the handover after a ${loss} took ${ms} ms`);
  }
  problems.push(...unreported(evidence));
  return {
    jobs: jobs.size,
    jobsLost: jobsLost.length,
    jobsTwice: jobsTwice.length,
    lostRecords: lost.length,
    ok: problems.length === 0,
    overlaps: overlaps.length,
    problems,
    records: evidence.stored.length,
    staleWritesAccepted: accepted.length,
    staleWritesRejected,
    terms,
  };
}

/**
 * Without the workers' reports there is nothing to compare the store with. Who is killed may have written one record and
 * not said so, and so may who tries a late write.
 */
function unreported({ stored, led, acknowledged }: Evidence): string[] {
  const told = new Set(led.map(({ token }) => token));
  const terms = [...new Set(stored.map(({ token }) => token))];
  const silent = terms.filter((token) => !told.has(token));
  const confirmed = new Set(acknowledged.map(({ number }) => number));
  const unconfirmed = stored.filter(({ number }) => !confirmed.has(number)).length;
  return [
    ...silent.map((token) => `nobody said to have led the term ${String(token)}`),
    ...(unconfirmed > terms.length ? [`${unconfirmed} records were reported by nobody`] : []),
  ];
}

/**
 * A term is proven to be held from its token, the revision at which it was first in line, to its last record. Two terms
 * overlap when the later one's token is not after the earlier one's last record.
 */
function overlapsInStore({ stored, led }: Evidence): string[] {
  const lastRecord = new Map<bigint, bigint>(led.map(({ token }) => [token, token]));
  for (const { token, revision } of stored)
    lastRecord.set(token, larger(lastRecord.get(token) ?? token, revision));
  return pairs([...lastRecord.keys()].sort(ascending))
    .filter(([earlier, later]) => (lastRecord.get(earlier) ?? 0n) >= later)
    .map(([earlier, later]) => overlap(earlier, later));
}

/** The same by the clock that all processes of one machine share: from being told to the last look that said "held". */
function overlapsInTime({ led, acknowledged }: Evidence): string[] {
  const until = new Map<bigint, number>();
  for (const { token, heldAt } of acknowledged) until.set(token, Math.max(until.get(token) ?? 0, heldAt));
  const from = new Map(led.map((term) => [term.token, term.from]));
  return pairs([...from.keys()].sort(ascending))
    .filter(([earlier, later]) => (until.get(earlier) ?? 0) > (from.get(later) ?? Infinity))
    .map(([earlier, later]) => overlap(earlier, later));
}

function overlap(earlier: bigint, later: bigint): string {
  return `the terms ${String(earlier)} and ${String(later)} were held at the same time`;
}

function lostRecords({ stored, acknowledged, late, lateStored }: Evidence): string[] {
  const byNumber = new Map(stored.map((record) => [record.number, record]));
  const lost = new Map<number, string>();
  for (const { number, token, revision } of acknowledged) {
    const record = byNumber.get(number);
    if (record?.token === token && record.revision === revision) continue;
    lost.set(number, `record ${number} of term ${String(token)} was confirmed but is not in the store`);
  }
  const highest = Math.max(0, ...byNumber.keys());
  for (let number = 1; number <= highest; number++) {
    if (!byNumber.has(number) && !lost.has(number)) lost.set(number, `record ${number} is missing`);
  }
  const lostLate = late
    .filter(({ accepted, token }) => accepted && !lateStored.some((landed) => landed.token === token))
    .map(({ token }) => `a late write of term ${String(token)} was confirmed but is not in the store`);
  return [...lost.values(), ...lostLate];
}

function lostJobs({ pushed, effects }: Evidence): string[] {
  const done = new Set(effects.map(({ jobId }) => jobId));
  return [...new Set(pushed)].filter((id) => !done.has(id)).map((id) => `${id} was pushed but never done`);
}

function jobsDoneTwice({ effects }: Evidence): string[] {
  const tokens = new Map<string, Set<bigint>>();
  for (const { jobId, token } of effects) tokens.set(jobId, (tokens.get(jobId) ?? new Set()).add(token));
  return [...tokens].filter(([, of]) => of.size > 1).map(([id, of]) => `${id} was done ${of.size} times`);
}

function staleAccepted({ stored, led, late, lateStored }: Evidence): string[] {
  const found: string[] = [];
  let highest = 0n;
  for (const { number, token, revision } of [...stored].sort((a, b) => ascending(a.revision, b.revision))) {
    if (token < highest) {
      found.push(
        `record ${number} of term ${String(token)} was written at revision ${String(revision)}, in a later term`,
      );
    }
    highest = larger(highest, token);
  }
  // A term that was given up early, by its worker's own deadline, lasts in the store until the lease is gone: etcd may
  // take a write of it until then. Once another term has begun it must not.
  const tokens = new Set([...led, ...stored].map(({ token }) => token));
  const landed = new Map(
    [...lateStored, ...late.filter(({ accepted }) => accepted)].map((write) => [write.token, write]),
  );
  for (const { token, revision } of landed.values()) {
    if (![...tokens].some((later) => later > token && later <= revision)) continue;
    found.push(
      `a late write of term ${String(token)} landed at revision ${String(revision)}, in a later term`,
    );
  }
  return found;
}

/** Every value with every later one. */
function pairs(sorted: readonly bigint[]): [bigint, bigint][] {
  return sorted.flatMap((earlier, at) =>
    sorted.slice(at + 1).map((later): [bigint, bigint] => [earlier, later]),
  );
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
