import type { Clock } from '../../util/clock.js';
import type { Fleet, Worker } from './fleet.js';
import type { Journal, Term } from './journal.js';
import type { Loss } from './verdict.js';

/** What a scenario is played with. */
export interface Stage {
  readonly fleet: Fleet;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly ttlSeconds: number;
  /** Aborts when the run must end. */
  readonly signal: AbortSignal;
  /** Tells the audience. */
  readonly note: (text: string) => void;
}

/** A term is left alone until it has written so many records; on a machine that is busy, fewer in so long. */
const RECORDS_A_TERM = 30;
const LEAST_RECORDS_A_TERM = 10;
const TERM_MS = 2500;

/** Takes a leader away three times, each time in another way; the frozen one comes back. Rejects with `TIMEOUT` when a step fails. */
export async function play(stage: Stage): Promise<void> {
  const { note } = stage;
  await handover(stage, 'crash', (leader) => {
    note(`kill -9 ${leader.name}: it leads, and dies without a word`);
    stage.journal.states.set(leader.name, 'killed');
    leader.kill();
  });
  const frozen = await handover(stage, 'freeze', (leader) => {
    note(`kill -STOP ${leader.name}: it leads, and stands still for longer than its lease`);
    stage.journal.states.set(leader.name, 'frozen');
    leader.freeze();
  });
  // Its successor is at work by now.
  await settled(stage);
  await wake(stage, frozen);
  await handover(stage, 'resign', (leader) => {
    note(`${leader.name} is asked to resign`);
    leader.tell({ type: 'resign' });
  });
  await settled(stage);
}

/** Waits until a leader is at work, takes it away, and measures until the next term's first record is in the store. */
async function handover(stage: Stage, loss: Loss, take: (leader: Worker) => void): Promise<Term> {
  const { journal, clock, signal } = stage;
  const { term, worker } = await settled(stage);
  const from = clock.now();
  take(worker);
  journal.changed();
  const next = await journal.until(() => journal.terms.find(({ token }) => token > term.token), {
    signal,
    timeoutMs: stage.ttlSeconds * 1000 + 10_000,
    what: `a new leader after the ${loss} of ${worker.name}`,
  });
  const ms = Math.round((next.since - from) * 10) / 10;
  next.after = { loss, ms };
  journal.handoverMs[loss] = ms;
  stage.note(`${next.worker} took over ${ms} ms after the ${loss} of ${worker.name}`);
  return term;
}

/** Resolves once the observed leader is the one that writes, and has written for a while. */
async function settled({ journal, fleet, clock, signal }: Stage): Promise<{ term: Term; worker: Worker }> {
  return journal.until(
    () => {
      const { term, leader } = journal;
      const worker = fleet.named(leader);
      if (term === undefined || term.worker !== leader) return undefined;
      const wanted = clock.now() - term.since < TERM_MS ? RECORDS_A_TERM : LEAST_RECORDS_A_TERM;
      return term.records >= wanted && worker?.alive === true ? { term, worker } : undefined;
    },
    { signal, timeoutMs: 30_000, what: `a leader with ${LEAST_RECORDS_A_TERM} records` },
  );
}

/** Wakes the leader of a term that is over by now; it tries to go on writing. */
async function wake({ journal, fleet, signal, note }: Stage, term: Term): Promise<void> {
  note(`kill -CONT ${term.worker}: it wakes up, and goes on where it was`);
  journal.states.set(term.worker, 'waits');
  fleet.named(term.worker)?.thaw();
  const late = await journal.until(() => journal.late.find(({ token }) => token === term.token), {
    signal,
    timeoutMs: 10_000,
    what: `the late write of ${term.worker}`,
  });
  note(`${term.worker} tried to write in a term that is over: etcd ${late.accepted ? 'TOOK' : 'refused'} it`);
}
