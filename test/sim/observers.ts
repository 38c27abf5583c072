/** Who leads in the simulation, as etcd has it, and who is seen to lead. */
import { ConclaveError, Election, type Session } from 'conclave';
import type { HistoryRecord, RecordOf, SimProcess, World } from 'conclave/testing';

import { keyRange } from '#conclave/embedded/store/key-range.js';

/** What observers need of the play. */
export interface ObserversStage {
  readonly world: World;
  readonly history: readonly HistoryRecord[];
  note(record: HistoryRecord): void;
}

/** Writes down each change of the leader: the key of the lowest create revision. */
export function noteLeaders(stage: ObserversStage, name: string): void {
  const { store } = stage.world.server.member;
  const range = keyRange(Buffer.from(`${name}/`), Buffer.from(`${name}0`));
  let last = 0n;
  store.onCommit((revision, changes) => {
    if (!changes.some(({ text }) => text.startsWith(`${name}/`))) return;
    const first = store.range(range).kvs.sort((a, b) => Number(a.createRevision - b.createRevision))[0];
    const since = first?.createRevision ?? 0n;
    if (since === last) return;
    last = since;
    const { nowMs: atMs } = stage.world;
    const leader = first?.value.toString();
    stage.note({
      atMs,
      is: 'led',
      leader,
      name,
      process: 'etcd',
      revision: first === undefined ? revision : since,
    });
  });
}

/** Observes until `signal` aborts, or the client is closed. */
export async function observe(
  stage: ObserversStage,
  process: SimProcess,
  session: Session,
  {
    name,
    observer,
    signal,
  }: { readonly name: string; readonly observer: string; readonly signal: AbortSignal },
): Promise<void> {
  let seen = 0n;
  const note = (leader: string | undefined, revision: bigint): void => {
    seen = revision;
    stage.note({ atMs: stage.world.nowMs, is: 'observed', leader, name, process: observer, revision });
  };
  try {
    for await (const leader of new Election(session, name).observe({ signal })) {
      if (leader !== undefined) note(leader.string(), leader.createRevision);
      // That nobody leads carries no revision: it is the next time that this was so; at first, nobody knows which.
      else if (seen > 0n) {
        const isNext = (record: HistoryRecord): record is RecordOf<'led'> =>
          record.is === 'led' && record.leader === undefined && record.revision > seen;
        const nobody = stage.history.find(isNext);
        if (nobody !== undefined) note(undefined, nobody.revision);
      }
    }
  } catch (error) {
    if (error !== signal.reason && !(error instanceof ConclaveError)) throw error;
  }
  if (!process.isDead) stage.note({ atMs: stage.world.nowMs, is: 'observingEnds', name, process: observer });
}
