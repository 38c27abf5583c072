/** Rounds of two, who enter together and leave together. */
import { ConclaveError, DoubleBarrier } from 'conclave';

import { Asked } from '../asked.js';
import { known, type Seat, type Workload } from '../workload.js';

const NAME = 'd/a';
const COUNT = 2;
const ENTERED = 'a party enters';
const PARTY = new RegExp(`^${NAME}/\\.double-barrier/party/`);

/** The leases of the parties that have not left. */
type Parties = Map<number, bigint>;

async function enterAndLeave(seat: Seat, parties: Parties, asked: Asked): Promise<void> {
  const { random, session, stage } = seat;
  const barrier = new DoubleBarrier(session, NAME, { count: COUNT });
  const about = { name: NAME, party: stage.next('party') };
  seat.note({ ...about, count: COUNT, is: 'enters' });
  parties.set(about.party, session.leaseId);
  const ends = asked.begins(ENTERED);
  let round: bigint;
  try {
    round = await barrier.enter(seat.patience());
    ends();
  } catch (error) {
    known(error);
    // Its removal may go on where etcd was not reached: the lease's end is what is certain then.
    const isCertain = error instanceof ConclaveError && ['MISMATCH', 'TICKET_LOST'].includes(error.code);
    if (isCertain) seat.note({ ...about, is: 'enterEnds' });
    return;
  }
  seat.note({ ...about, is: 'entered', round });
  await seat.sleep(random.between(0, 300));
  stage.operations += 1;
  seat.note({ ...about, is: 'leaves' });
  const hasLeft = await barrier.leave(seat.patience()).then(() => true, known);
  if (hasLeft === true) seat.note({ ...about, is: 'left' });
}

export function doubleBarriers(): Workload {
  const parties: Parties = new Map();
  const asked = new Asked();
  return {
    begin: (stage) => {
      const { server } = stage.world;
      server.onCommit((revision, changes) => {
        for (const { createRevision, deleted, text } of changes) {
          if (createRevision === revision && PARTY.test(text)) asked.done(stage, ENTERED, revision);
          const lease = deleted && PARTY.test(text) ? /party\/([\da-f]+)/.exec(text)?.[1] : undefined;
          // Those of a lease that has ended; the others were removed by their own hands.
          if (lease === undefined || server.member.table.has(BigInt(`0x${lease}`))) continue;
          for (const [party, its] of parties) {
            if (its !== BigInt(`0x${lease}`)) continue;
            parties.delete(party);
            stage.note({ atMs: stage.world.nowMs, is: 'partyGone', name: NAME, party, process: 'etcd' });
          }
        }
      });
    },
    join: (seat) => ({
      finish: async () => {
        // A party that is left until its lease ends would be the partner of one of the two.
        while (seat.stage.below(`${NAME}/.double-barrier/party/`).kvs.length > 0) await seat.sleep(100);
        asked.begins(ENTERED);
        const two = [0, 1].map(() => new DoubleBarrier(seat.session, NAME, { count: COUNT }));
        await Promise.all(two.map((each) => each.enter()));
        await Promise.all(two.map((each) => each.leave()));
      },
      step: async () => {
        seat.stage.operations += 1;
        await enterAndLeave(seat, parties, asked);
      },
    }),
    name: 'double-barriers',
  };
}
