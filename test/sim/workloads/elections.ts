/** An election: who leads and proclaims what, as etcd has it, and those who observe it. */
import { Election, type Leadership } from 'conclave';
import type { HistoryRecord, RecordOf } from 'conclave/testing';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import { ask, type Taken } from '../attempt.js';
import { lead } from '../lead.js';
import type { Stage } from '../stage.js';
import { known, type Part, type Seat, type Workload } from '../workload.js';

const NAME = 'e/a';

/** What observers are told of a leader. */
interface Seen {
  readonly createRevision: bigint;
  readonly modRevision: bigint;
}

/** At which revision a leader with its value came to lead. */
type Since = Map<string, bigint>;

function textOf({ createRevision, modRevision }: Seen): string {
  return `${createRevision}.${modRevision}`;
}

/** Writes down each change of the leader, the key of the lowest create revision, and of its value. */
function noteLeaders(stage: Stage, since: Since): void {
  const range = keyRange(Buffer.from(`${NAME}/`), Buffer.from(`${NAME}0`));
  let last = '';
  /** Of each term the last number that was proclaimed, by the key as it was made: a copy of a campaign may make it anew. */
  const proclaimed = new Map<string, number>();
  stage.world.server.onCommit((revision, changes) => {
    const its = changes.filter(({ text }) => text.startsWith(`${NAME}/`));
    if (its.length === 0) return;
    for (const { createRevision, deleted, value } of its) {
      const [term = '', number] = value.toString().split('.');
      if (deleted || number === undefined) continue;
      const life = `${createRevision}.${term}`;
      const before = proclaimed.get(life) ?? 0;
      if (Number(number) < before)
        stage.violate('proclaim-went-back', `${value.toString()} at ${revision}, after number ${before}`);
      proclaimed.set(life, Number(number));
    }
    const { store } = stage.world.server.member;
    const first = store.range(range).kvs.sort((a, b) => Number(a.createRevision - b.createRevision))[0];
    const now = first === undefined ? '' : textOf(first);
    if (now === last) return;
    last = now;
    since.set(now, revision);
    const leader = first?.value.toString();
    stage.note({ atMs: stage.world.nowMs, is: 'led', leader, name: NAME, process: 'etcd', revision });
  });
}

/** Observes until `signal` aborts, or the client is closed. */
async function observe(seat: Seat, since: Since, observer: string, signal: AbortSignal): Promise<void> {
  const { process, session, stage } = seat;
  let seen = 0n;
  const note = (leader: string | undefined, revision: bigint): void => {
    seen = revision;
    seat.note({ is: 'observed', leader, name: NAME, process: observer, revision });
  };
  try {
    for await (const leader of new Election(session, NAME).observe({ signal })) {
      if (leader !== undefined) note(leader.string(), since.get(textOf(leader)) ?? leader.modRevision);
      // That nobody leads carries no revision: it is the next time that this was so; at first, nobody knows which.
      else if (seen > 0n) {
        const isNext = (record: HistoryRecord): record is RecordOf<'led'> =>
          record.is === 'led' && record.leader === undefined && record.revision > seen;
        const nobody = stage.history.find(isNext);
        if (nobody !== undefined) note(undefined, nobody.revision);
      }
    }
  } catch (error) {
    if (error !== signal.reason) known(error);
  }
  if (!process.isDead) seat.note({ is: 'observingEnds', name: NAME, process: observer });
}

/** Leads for a while, and proclaims something now and then. */
async function leadFor(seat: Seat, election: Election): Promise<void> {
  const term = seat.stage.next('term');
  const take = (): Promise<Leadership> => election.campaign(`${term}.0`, seat.endurance());
  const taken = await ask(seat, { names: [NAME], take });
  if (taken === undefined) return;
  await proclaim(seat, taken, term);
  await taken.giveBack();
}

async function proclaim(seat: Seat, taken: Taken<Leadership>, term: number): Promise<void> {
  const count = seat.random.below(4);
  for (let number = 1; number <= count && taken.hold.held; number++) {
    seat.stage.operations += 1;
    await taken.hold.proclaim(`${term}.${number}`).catch(known);
  }
  await taken.work();
}

function join(seat: Seat, since: Since): Part {
  const { process, random, session, stage } = seat;
  const observer = `${process.name}#${stage.next('observer')}`;
  const stop = new AbortController();
  stage.whenKilled(process, () => seat.note({ is: 'observingEnds', name: NAME, process: observer }));
  const observing = observe(seat, since, observer, stop.signal);
  const election = new Election(session, NAME);
  return {
    step: () => {
      if (random.chance(0.7)) return leadFor(seat, election);
      const work = (taken: Taken<Leadership>): Promise<void> => proclaim(seat, taken, stage.next('term'));
      return lead(seat, election, { value: `run ${stage.next('run')}`, work });
    },
    finish: async () => {
      await (await new Election(session, NAME).campaign(`${stage.next('term')}.0`)).resign();
    },
    close: async () => {
      stop.abort(new Error('enough'));
      await observing;
    },
  };
}

export function elections(): Workload {
  const since: Since = new Map();
  return {
    begin: (stage) => noteLeaders(stage, since),
    join: (seat) => join(seat, since),
    name: 'elections',
    removable: /^e\/a\//,
    stays: /^w\/e\//,
  };
}
