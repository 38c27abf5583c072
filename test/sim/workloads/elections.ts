/** An election, who leads as etcd has it, and those who observe it. */
import { Election, type Leadership } from 'conclave';
import type { HistoryRecord, RecordOf } from 'conclave/testing';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import { holdFor } from '../attempt.js';
import type { Stage } from '../stage.js';
import { known, type Part, type Seat, type Workload } from '../workload.js';

const NAME = 'e/a';

/** Writes down each change of the leader: the key of the lowest create revision. */
function noteLeaders(stage: Stage): void {
  const range = keyRange(Buffer.from(`${NAME}/`), Buffer.from(`${NAME}0`));
  let last = 0n;
  stage.world.server.onCommit((revision, changes) => {
    if (!changes.some(({ text }) => text.startsWith(`${NAME}/`))) return;
    const { store } = stage.world.server.member;
    const first = store.range(range).kvs.sort((a, b) => Number(a.createRevision - b.createRevision))[0];
    const since = first?.createRevision ?? 0n;
    if (since === last) return;
    last = since;
    stage.note({
      atMs: stage.world.nowMs,
      is: 'led',
      leader: first?.value.toString(),
      name: NAME,
      process: 'etcd',
      revision: first === undefined ? revision : since,
    });
  });
}

/** Observes until `signal` aborts, or the client is closed. */
async function observe(seat: Seat, observer: string, signal: AbortSignal): Promise<void> {
  const { process, session, stage } = seat;
  let seen = 0n;
  let value = 0n;
  const note = (leader: string | undefined, revision: bigint): void => {
    seen = revision;
    seat.note({ is: 'observed', leader, name: NAME, process: observer, revision });
  };
  try {
    for await (const leader of new Election(session, NAME).observe({ signal })) {
      if (leader !== undefined) {
        // A ticket whose removal was not confirmed may be taken up by the next campaign, which writes its value anew: told
        // again, but no other leader. The same value told twice is not passed over.
        const isNewValue = leader.createRevision === seen && leader.modRevision > value;
        value = leader.modRevision;
        if (!isNewValue) note(leader.string(), leader.createRevision);
      }
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

function join(seat: Seat): Part {
  const { process, session, stage } = seat;
  const observer = `${process.name}#${stage.next('observer')}`;
  const stop = new AbortController();
  stage.whenKilled(process, () => seat.note({ is: 'observingEnds', name: NAME, process: observer }));
  const observing = observe(seat, observer, stop.signal);
  const take = (): Promise<Leadership> => new Election(session, NAME).campaign(process.name, seat.patience());
  return {
    step: () => holdFor(seat, { names: [NAME], take }),
    finish: async () => {
      await (await new Election(session, NAME).campaign(process.name)).resign();
    },
    close: async () => {
      stop.abort(new Error('enough'));
      await observing;
    },
  };
}

export const elections: Workload = {
  begin: noteLeaders,
  join,
  name: 'elections',
  stays: /^w\/e\//,
};
