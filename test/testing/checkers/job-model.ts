// A small reference model of a queue with one worker at a time: what it plays by a seed is a valid history.
import type { HistoryRecord } from 'conclave/testing';

import type { Random } from './mutations.js';

interface Entry {
  readonly job: string;
  readonly priority: number;
  readonly place: number;
  state: 'waiting' | 'delayed' | 'active' | 'over';
  attempts: number;
  keptUntilMs: number;
}

const MAX_ATTEMPTS = 3;

/** Plays pushes, delays, claims that end in every way, pauses and retries; at the end the jobs that are there are listed. */
export function playJobs(random: Random, steps = 150): HistoryRecord[] {
  const history: HistoryRecord[] = [];
  const entries: Entry[] = [];
  let revision = 1n;
  let claims = 0;
  let isPaused = false;
  let active: { readonly entry: Entry; readonly claim: number; readonly process: string } | undefined;
  const note = (process: string, record: object): void => {
    history.push({ atMs: history.length, process, ...record } as unknown as HistoryRecord);
  };
  const push = (): void => {
    const priority = random.below(3);
    const entry: Entry = {
      attempts: 0,
      job: `j${entries.length}`,
      keptUntilMs: 0,
      place: entries.length,
      priority,
      state: 'waiting',
    };
    const isDelayed = random.chance(0.3);
    entries.push(entry);
    const { job, place } = entry;
    const placed = isDelayed ? {} : { place };
    note('p', { is: 'pushed', job, maxAttempts: MAX_ATTEMPTS, priority, revision: ++revision, ...placed });
    if (isDelayed) delay(entry);
  };
  const delay = (entry: Entry): void => {
    entry.state = 'delayed';
    note('etcd', { is: 'delayed', job: entry.job, revision });
  };
  const claim = (): void => {
    const waiting = entries.filter(({ state }) => state === 'waiting');
    waiting.sort((one, other) => other.priority - one.priority || one.place - other.place);
    const [entry] = waiting;
    if (entry === undefined || active !== undefined || isPaused) return;
    entry.state = 'active';
    entry.attempts++;
    active = { claim: ++claims, entry, process: `w${random.below(3)}` };
    const { job, attempts: attempt } = entry;
    note(active.process, { attempt, claim: claims, is: 'claimed', job, revision: ++revision });
  };
  const end = (): void => {
    if (active === undefined) return;
    const { claim: number, entry, process } = active;
    active = undefined;
    const about = { claim: number, job: entry.job };
    const how = random.pick(['done', 'done', 'failed', 'handedBack', 'lost'] as const);
    revision++;
    if (how === 'done') {
      const keepMs = random.chance(0.5) ? random.below(60) : undefined;
      note(process, { ...about, is: 'committed', revision, ...(keepMs === undefined ? {} : { keepMs }) });
      entry.keptUntilMs = history.length - 1 + (keepMs ?? 0);
      entry.state = 'over';
      return;
    }
    note(process, { ...about, how, is: 'claimEnds' });
    entry.state = 'waiting';
    if (how === 'handedBack') entry.attempts--;
    else if (entry.attempts === MAX_ATTEMPTS) {
      entry.state = 'over';
      note('etcd', { is: 'buried', job: entry.job, revision });
      if (random.chance(0.5)) return;
      entry.attempts = 0;
      entry.state = 'waiting';
      note('etcd', { is: 'retried', job: entry.job, revision: ++revision });
    } else if (how === 'failed' && random.chance(0.5)) delay(entry);
  };
  const list = (): void => {
    const jobs = entries.filter(({ keptUntilMs, state }) => state !== 'over' || history.length < keptUntilMs);
    note('etcd', { is: 'jobs', jobs: jobs.map(({ job }) => job) });
  };
  for (let step = 0; step < steps; step++) {
    const what = random.below(12);
    if (what < 3) push();
    else if (what < 6) claim();
    else if (what < 9) end();
    else if (what < 10) {
      const delayed = entries.find(({ state }) => state === 'delayed');
      if (delayed === undefined) continue;
      delayed.state = 'waiting';
      note('etcd', { is: 'due', job: delayed.job, revision: ++revision });
    } else if (what < 11) list();
    else if (random.chance(0.5)) {
      isPaused = !isPaused;
      note('etcd', { is: isPaused ? 'paused' : 'resumed', revision: ++revision });
    }
  }
  list();
  return history;
}
