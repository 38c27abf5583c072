/** Whether a queue loses no job, lets none be done twice, and keeps what it says of attempts and groups. */
import { checkOptions } from '../../util/validate.js';
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { freezesOf } from './holds.js';
import { deathOf, type Job, jobsOf } from './job-life.js';
import { groupOrder, overtaken, priorities } from './job-order.js';
import { early, forgotten, over, paused } from './job-times.js';

/** Options of `checkJobs`. */
export interface JobsOptions {
  /** How many jobs of a group may be claimed at once, by group. @default no limit */
  readonly groupLimits?: Readonly<Record<string, number>>;
  /** Groups whose jobs are first claimed in the order in which they were pushed. @default none */
  readonly orderedGroups?: readonly string[];
  /**
   * How many jobs of its priority that have later places may be claimed first while a job waits; of records with a `place`, and
   * where every first claim is written down. @default not looked at
   */
  readonly maxOvertakes?: number;
  /** Nothing is first claimed while a greater priority waits, as with one worker that has pushed all. @default false */
  readonly strictPriority?: boolean;
  /** How far apart the clocks are by which delays and keeping go, in milliseconds. @default 0 */
  readonly skewMs?: number;
}

const OPTIONS = ['groupLimits', 'orderedGroups', 'maxOvertakes', 'strictPriority', 'skewMs'] as const;

/**
 * Rules: `job-lost` (against the last `jobs` of the history; without one it is not looked at), `job-unknown`,
 * `committed-twice`, `claimed-by-two`, `commit-not-fenced`, `too-many-attempts`, `attempts-fall` (the next attempt after one
 * that failed is not a greater one), `claimed-early` (while delayed), `claimed-when-over` (done, or dead), `claimed-while-paused`,
 * `forgotten-early`, `group-order`, `group-limit`, `overtaken`, `priority`.
 */
export function checkJobs(history: readonly HistoryRecord[], options: JobsOptions = {}): Violation[] {
  checkOptions(options, OPTIONS, 'checkJobs');
  const { maxOvertakes, skewMs = 0, strictPriority = false } = options;
  const jobs = jobsOf(history);
  const groups = new Map([...jobs].map(([job, { pushed }]) => [job, pushed?.record.group]));
  return [
    ...[...jobs].flatMap(([name, job]) => [
      ...settled(name, job),
      ...attempts(name, job),
      ...early(name, job, skewMs),
      ...over(name, job),
    ]),
    ...lost(history, jobs),
    ...paused(history, jobs),
    ...forgotten(history, jobs, skewMs),
    ...(maxOvertakes === undefined ? [] : overtaken(jobs, maxOvertakes)),
    ...(strictPriority ? priorities(jobs) : []),
    ...(options.orderedGroups ?? []).flatMap((group) => groupOrder(group, jobs)),
    ...concurrency(history, groups, options.groupLimits ?? {}),
  ];
}

/** Of its commits there is one at most, and that by the newest claim. */
function settled(name: string, job: Job): Violation[] {
  const violations: Violation[] = [];
  const claims = job.claims.map(({ record }) => record);
  const commits = job.commits.map(({ record }) => record);
  if (commits.length > 1)
    violations.push({
      rule: 'committed-twice',
      message: `${name} was committed ${commits.length} times`,
      at: commits,
    });
  for (const commit of commits) {
    const own = claims.find(({ claim }) => claim === commit.claim);
    const newer = claims.findLast(
      ({ claim, revision }) =>
        claim !== commit.claim && revision < commit.revision && revision > (own?.revision ?? -1n),
    );
    if (newer === undefined && own !== undefined && own.revision < commit.revision) continue;
    const what =
      newer === undefined ? 'which had not claimed it' : `after claim ${newer.claim} of ${newer.process}`;
    violations.push({
      rule: 'commit-not-fenced',
      message: `${name} was committed by claim ${commit.claim} of ${commit.process}, ${what}`,
      at: newer === undefined ? [commit] : [newer, commit],
    });
  }
  return violations;
}

/** Of what was pushed, as many as it may have; each that follows a failed one is a greater one, and none is a lower one. */
function attempts(name: string, { claims, ends, pushed, retries }: Job): Violation[] {
  const records = claims.map(({ record }) => record);
  if (pushed === undefined && claims.length > 0)
    return [{ rule: 'job-unknown', message: `${name} was claimed, and nobody pushed it`, at: records }];
  const limit = pushed?.record.maxAttempts ?? Infinity;
  return records.flatMap((claimed, at): Violation[] => {
    const { attempt, claim, revision } = claimed;
    if (attempt > limit) {
      const message = `${name} was claimed for attempt ${attempt}, and may have ${limit}`;
      return [{ rule: 'too-many-attempts', message, at: [claimed] }];
    }
    const before = records[at - 1];
    if (
      before === undefined ||
      retries.some(({ record }) => record.revision > before.revision && record.revision < revision)
    )
      return [];
    const how = ends.get(before.claim)?.how;
    if (attempt > before.attempt || (attempt === before.attempt && how !== 'failed')) return [];
    const message = `${name}: claim ${claim} is attempt ${attempt}, after attempt ${before.attempt} by claim ${before.claim}${how === undefined ? '' : `, which ended (${how})`}`;
    return [{ rule: 'attempts-fall', message, at: [before, claimed] }];
  });
}

/** What was certainly pushed is committed, or buried, or still there. */
function lost(history: readonly HistoryRecord[], jobs: ReadonlyMap<string, Job>): Violation[] {
  const listing = history.findLast((record) => record.is === 'jobs');
  if (listing === undefined) return [];
  const there = new Set(listing.jobs);
  const at = history.lastIndexOf(listing);
  return [...jobs].flatMap(([name, job]): Violation[] => {
    const { commits, pushed } = job;
    const mustBe = pushed?.record.revision !== undefined && pushed.index < at;
    if (!mustBe || there.has(name) || deathOf(job) !== undefined || commits.length > 0) return [];
    const message = `${name} is gone, and nobody committed it`;
    return [{ rule: 'job-lost', message, at: [pushed.record, listing] }];
  });
}

/** Who works at what at the same time, as far as workers that are awake know. */
function concurrency(
  history: readonly HistoryRecord[],
  groups: ReadonlyMap<string, string | undefined>,
  limits: Readonly<Record<string, number>>,
): Violation[] {
  const freezes = freezesOf(history);
  const violations: Violation[] = [];
  let open: RecordOf<'claimed'>[] = [];
  for (const [index, record] of history.entries()) {
    if (record.is === 'crashed' || record.is === 'frozen')
      open = open.filter(({ process }) => process !== record.process);
    if (record.is === 'committed' || record.is === 'claimEnds')
      open = open.filter(({ claim }) => claim !== record.claim);
    if (record.is !== 'claimed') continue;
    if ((freezes.get(record.process) ?? []).some(([from, to]) => from < index && index < to)) continue;
    const other = open.find(({ job }) => job === record.job);
    if (other !== undefined)
      violations.push({
        rule: 'claimed-by-two',
        message: `${record.job} was claimed by ${record.process} while ${other.process} works at it`,
        at: [other, record],
      });
    open.push(record);
    const group = groups.get(record.job);
    const limit = group !== undefined && Object.hasOwn(limits, group) ? limits[group] : undefined;
    const beside = open.filter(({ job }) => groups.get(job) === group);
    if (limit !== undefined && beside.length > limit)
      violations.push({
        rule: 'group-limit',
        message: `${group ?? ''}: ${beside.length} jobs are claimed at once, and ${limit} may be`,
        at: beside,
      });
  }
  return violations;
}
