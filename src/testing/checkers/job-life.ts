// What a history tells of each job, put together: what the checkers of queues judge.
import type { HistoryRecord, RecordOf } from './history.js';
import type { Placed } from './places.js';

/** One job; claims in the order of their revisions, the others in that of the history. */
export interface Job {
  pushed?: Placed<'pushed'>;
  readonly burials: Placed<'buried'>[];
  readonly claims: Placed<'claimed'>[];
  readonly commits: Placed<'committed'>[];
  readonly ends: Map<number, RecordOf<'claimEnds'>>;
  readonly retries: Placed<'retried'>[];
  readonly delays: Placed<'delayed' | 'due'>[];
}

/** Where a job was moved to the dead ones, or removed, if it has not been retried since. */
export function deathOf({ burials, retries }: Job): Placed<'buried'> | undefined {
  const last = burials.at(-1);
  return last === undefined || (retries.at(-1)?.index ?? -1) > last.index ? undefined : last;
}

/** All jobs, by name. */
export function jobsOf(history: readonly HistoryRecord[]): Map<string, Job> {
  const jobs = new Map<string, Job>();
  for (const [index, record] of history.entries()) {
    if (!('job' in record)) continue;
    const job = jobs.get(record.job) ?? {
      burials: [],
      claims: [],
      commits: [],
      delays: [],
      ends: new Map(),
      retries: [],
    };
    jobs.set(record.job, job);
    note(job, index, record);
  }
  for (const { claims } of jobs.values())
    claims.sort((one, other) => Number(one.record.revision - other.record.revision));
  return jobs;
}

type OfJob = Extract<HistoryRecord, { readonly job: string }>;

function note(job: Job, index: number, record: OfJob): void {
  switch (record.is) {
    case 'pushed':
      job.pushed ??= { index, record };
      break;
    case 'buried':
      job.burials.push({ index, record });
      break;
    case 'claimed':
      job.claims.push({ index, record });
      break;
    case 'committed':
      job.commits.push({ index, record });
      break;
    case 'claimEnds':
      job.ends.set(record.claim, record);
      break;
    case 'retried':
      job.retries.push({ index, record });
      break;
    case 'delayed':
    case 'due':
      job.delays.push({ index, record });
  }
}
