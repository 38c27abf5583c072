/** Whether a queue loses no job, lets none be done twice, and keeps what it says of attempts and groups. */
import { checkOptions } from '../../util/validate.js';
import type { HistoryRecord, RecordOf, Violation } from './history.js';
import { freezesOf } from './holds.js';

export interface JobsOptions {
  /** How many jobs of a group may be claimed at once, by group. @default no limit */
  readonly groupLimits?: Readonly<Record<string, number>>;
  /** Groups whose jobs are first claimed in the order in which they were pushed. @default none */
  readonly orderedGroups?: readonly string[];
}

/**
 * Rules: `job-lost` (against the last `jobs` of the history; without one it is not looked at), `job-unknown`,
 * `committed-twice`, `claimed-by-two`, `commit-not-fenced`, `too-many-attempts`, `group-order`, `group-limit`.
 */
export function checkJobs(history: readonly HistoryRecord[], options: JobsOptions = {}): Violation[] {
  checkOptions(options, ['groupLimits', 'orderedGroups'], 'checkJobs');
  const jobs = jobsOf(history);
  const groups = new Map([...jobs].map(([job, { pushed }]) => [job, pushed?.group]));
  return [
    ...[...jobs].flatMap(([name, job]) => [...settled(name, job), ...attempts(name, job)]),
    ...lost(history, jobs),
    ...(options.orderedGroups ?? []).flatMap((group) => groupOrder(group, jobs)),
    ...concurrency(history, groups, options.groupLimits ?? {}),
  ];
}

interface Job {
  pushed?: RecordOf<'pushed'>;
  buried?: RecordOf<'buried'>;
  readonly claims: RecordOf<'claimed'>[];
  readonly commits: RecordOf<'committed'>[];
}

function jobsOf(history: readonly HistoryRecord[]): Map<string, Job> {
  const jobs = new Map<string, Job>();
  for (const record of history) {
    if (!('job' in record)) continue;
    const job = jobs.get(record.job) ?? { claims: [], commits: [] };
    jobs.set(record.job, job);
    if (record.is === 'pushed') job.pushed ??= record;
    else if (record.is === 'claimed') job.claims.push(record);
    else if (record.is === 'committed') job.commits.push(record);
    else if (record.is === 'buried') job.buried ??= record;
  }
  for (const { claims } of jobs.values()) claims.sort((one, other) => Number(one.revision - other.revision));
  return jobs;
}

/** Of its commits there is one at most, and that by the newest claim. */
function settled(name: string, { claims, commits }: Job): Violation[] {
  const violations: Violation[] = [];
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

function attempts(name: string, { claims, pushed }: Job): Violation[] {
  if (pushed === undefined && claims.length > 0)
    return [{ rule: 'job-unknown', message: `${name} was claimed, and nobody pushed it`, at: claims }];
  const limit = pushed?.maxAttempts ?? Infinity;
  return claims
    .filter(({ attempt }) => attempt > limit)
    .map((claimed) => ({
      rule: 'too-many-attempts',
      message: `${name} was claimed for attempt ${claimed.attempt}, and may have ${limit}`,
      at: [claimed],
    }));
}

/** What was certainly pushed is committed, or buried, or still there. */
function lost(history: readonly HistoryRecord[], jobs: ReadonlyMap<string, Job>): Violation[] {
  const listing = history.findLast((record) => record.is === 'jobs');
  if (listing === undefined) return [];
  const there = new Set(listing.jobs);
  const before = new Set(history.slice(0, history.indexOf(listing)));
  return [...jobs].flatMap(([name, { buried, commits, pushed }]): Violation[] => {
    const mustBe = pushed?.revision !== undefined && before.has(pushed);
    if (!mustBe || there.has(name) || buried !== undefined || commits.length > 0) return [];
    return [{ rule: 'job-lost', message: `${name} is gone, and nobody committed it`, at: [pushed, listing] }];
  });
}

function groupOrder(group: string, jobs: ReadonlyMap<string, Job>): Violation[] {
  const first = [...jobs].flatMap(
    ([
      name,
      {
        claims: [claimed],
        pushed,
      },
    ]) => {
      const isOurs = pushed?.group === group && pushed.revision !== undefined;
      return isOurs && claimed !== undefined ? [{ claimed, name, place: pushed.revision }] : [];
    },
  );
  first.sort((one, other) => Number(one.claimed.revision - other.claimed.revision));
  return first.flatMap((one, at): Violation[] => {
    const before = first[at - 1];
    if (before === undefined || before.place <= one.place) return [];
    const message = `${group}: ${before.name} was claimed before ${one.name}, which was pushed earlier`;
    return [{ rule: 'group-order', message, at: [before.claimed, one.claimed] }];
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
