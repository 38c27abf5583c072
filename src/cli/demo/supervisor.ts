import { nanoid } from 'nanoid';

import { Client } from '../../etcd/client.js';
import { observeLine } from '../../election/observe.js';
import { hasCode } from '../../errors/conclave-error.js';
import { untilIdle } from '../../queue/inspect/idle.js';
import { QueueKeys } from '../../queue/store/keys.js';
import { limitWait } from '../../util/abort.js';
import type { Target } from '../connect.js';
import { assertReachable } from '../reach.js';
import { type StoreEvidence, readRecord, readStore } from './evidence.js';
import { Fleet, type WorkerListener } from './fleet.js';
import { Journal, ranOut } from './journal.js';
import { DemoKeys } from './keys.js';
import { play } from './scenario.js';
import { judge, type Loss, type Verdict } from './verdict.js';
import type { View } from './view.js';

/** How a run is made. */
export interface RunOptions {
  readonly target: Target;
  readonly ttlSeconds: number;
  /** Ends the run at once. */
  readonly signal: AbortSignal;
  readonly view: (journal: Journal) => View;
}

/** What came of it. */
export interface Outcome {
  readonly verdict: Verdict;
  readonly handoverMs: Readonly<Partial<Record<Loss, number>>>;
}

const WORKERS = 5;
/** The whole run, cleaning up included, is over within a minute. */
const PLAY_MS = 35_000;
/** How long the jobs that are left may take. */
const JOBS_MS = 10_000;

/**
 * Runs the fleet through the scenario and judges it. Rejects with a ConclaveError when the server cannot be reached, and
 * with the signal's reason. Whatever happens, no process, key or lease of the run is left behind.
 */
export async function supervise(options: RunOptions): Promise<Outcome> {
  const client = new Client(options.target);
  const keys = new DemoKeys(nanoid(10));
  const journal = new Journal(client.clock);
  try {
    await assertReachable(options.target);
    // What cannot be reached or refuses us is to be heard of now, not to be waited for.
    await client.kv.get(keys.last, { signal: options.signal });
    const view = options.view(journal);
    try {
      return await run(client, keys, journal, { ...options, note: (text) => view.note(text) });
    } finally {
      view.end();
    }
  } finally {
    await client.close();
  }
}

type Running = RunOptions & { readonly note: (text: string) => void };

async function run(client: Client, keys: DemoKeys, journal: Journal, running: Running): Promise<Outcome> {
  const troubles: string[] = [];
  const following = new AbortController();
  const { signal } = following;
  const followers = [
    followRecords(client, keys, journal, signal),
    followLeader(client, keys, journal, { note: running.note, signal }),
  ].map(async (follower) => {
    try {
      await follower;
    } catch (error) {
      if (!signal.aborted) troubles.push(`could not follow the run: ${String(error)}`);
    }
  });
  const fleet = new Fleet(WORKERS, client.clock, listenerOf(journal, troubles, running.note));
  try {
    for (const worker of fleet.workers) {
      journal.states.set(worker.name, 'starting');
      worker.tell({
        name: worker.name,
        run: keys.run,
        target: running.target,
        ttlSeconds: running.ttlSeconds,
        type: 'start',
      });
    }
    using limit = limitWait(client.clock, { signal: running.signal, timeoutMs: PLAY_MS }, 'the demo');
    try {
      await play({ ...running, clock: client.clock, fleet, journal, signal: limit.signal });
    } catch (error) {
      running.signal.throwIfAborted();
      if (!ranOut(error)) throw error;
      troubles.push(error.message);
    }
    running.note(
      'the run is over: the jobs that are left are done, the workers stop, and everything is checked',
    );
    following.abort();
    await finishJobs(client, keys, { fleet, journal, signal: running.signal }).catch((error: unknown) => {
      running.signal.throwIfAborted();
      if (!ranOut(error)) throw error;
      troubles.push(error.message);
    });
    await fleet.stop();
    const store: StoreEvidence = await readStore(client, keys);
    const { acknowledged, handoverMs, late, led, pushed } = journal;
    const reported = { acknowledged, handoverMs, late, led, pushed, troubles };
    return { handoverMs, verdict: judge({ ...store, ...reported }) };
  } finally {
    following.abort();
    await fleet.stop(0);
    await Promise.all(followers);
    await removeAll(client, keys, journal);
  }
}

/** Has nobody stand any more, and waits until no job is left: an empty queue tells nothing while a leader may still push. */
async function finishJobs(
  client: Client,
  keys: DemoKeys,
  {
    fleet,
    journal,
    signal,
  }: { readonly fleet: Fleet; readonly journal: Journal; readonly signal: AbortSignal },
): Promise<void> {
  for (const worker of fleet.workers) worker.tell({ type: 'rest' });
  using limit = limitWait(client.clock, { signal, timeoutMs: JOBS_MS }, 'wait until the jobs are done');
  const allRest = (): true | undefined =>
    fleet.workers.every(({ alive, name }) => !alive || journal.resting.has(name)) ? true : undefined;
  await journal.until(allRest, { signal: limit.signal, timeoutMs: JOBS_MS, what: 'wait until nobody leads' });
  await untilIdle(client, new QueueKeys(keys.jobs), { signal: limit.signal }, client.closed);
}

function listenerOf(journal: Journal, troubles: string[], note: (text: string) => void): WorkerListener {
  return {
    complained: (worker, line) => note(`${worker.name}: ${line}`),
    failed(worker, how) {
      troubles.push(`${worker.name} ${how}`);
      note(`${worker.name} ${how}`);
    },
    reported(worker, report) {
      journal.reported(worker.name, report);
      if (report.type === 'trouble') note(`${worker.name}: ${report.message}`);
    },
  };
}

/** Notes every record as it comes into the store. */
async function followRecords(
  client: Client,
  keys: DemoKeys,
  journal: Journal,
  signal: AbortSignal,
): Promise<void> {
  for await (const batch of client.watch({ prefix: keys.records }, { signal })) {
    for (const event of batch.events) {
      if (event.type !== 'put') continue;
      const { worker, token } = readRecord(event.kv, keys);
      journal.recordSeen(worker, token);
    }
  }
}

/** Notes every change of the leader. */
async function followLeader(
  client: Client,
  keys: DemoKeys,
  journal: Journal,
  { note, signal }: { readonly note: (text: string) => void; readonly signal: AbortSignal },
): Promise<void> {
  for await (const leader of observeLine(client, keys.election, signal)) {
    journal.leader = leader?.string();
    note(leader === undefined ? 'nobody leads' : `${leader.string()} leads`);
    journal.changed();
  }
}

/** Ends the leases of workers that could not do it themselves, so that none writes any more, and removes the keys. */
async function removeAll(client: Client, keys: DemoKeys, journal: Journal): Promise<void> {
  try {
    await Promise.all([...journal.leaseIds].map((leaseId) => client.lease.revoke(leaseId)));
    await client.kv.delete({ prefix: keys.prefix });
  } catch (error) {
    if (!hasCode(error)) throw error;
    console.error(`conclave demo: could not remove the keys below ${keys.prefix}: ${error.message}`);
  }
}
