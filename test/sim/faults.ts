import type { SimProcess, World } from 'conclave/testing';

import { keyRange } from '#conclave/embedded/store/key-range.js';
import { fill } from './no-space.js';
import type { Stage } from './stage.js';

/** What can befall the world. */
export const FAULTS = [
  'cut process',
  'cut member',
  'member down',
  'member silent',
  'all members down',
  'freeze',
  'busy',
  'kill',
  'restart',
  'revoke',
  'key removed',
  'compact',
  'wall clock',
  'storm',
  'no space',
  'lag',
  'no leader',
  'tokens forgotten',
  'watches refused',
] as const;

/** What only some runs have: history goes back. */
export const LOSSES = ['emptied', 'restored'] as const;

/** How long an event loop that is busy holds up what comes to it. */
const SLICE_MS = 40;

export type Fault = (typeof FAULTS)[number] | (typeof LOSSES)[number];

/** The processes that a fault may strike. */
export interface Fleet {
  /** Those that are alive. */
  processes(): readonly SimProcess[];
  /** Another one takes its place. */
  killed(process: SimProcess): void;
}

/** Does one fault; it ends by itself. Returns for how long it goes on, in milliseconds. */
export function strike(fault: Fault, stage: Stage, fleet: Fleet): number {
  const { world } = stage;
  const { members, network, random, server, timeline } = world;
  const some = random.pick(members);
  const processes = fleet.processes();
  const one = processes.length === 0 ? undefined : random.pick(processes);
  switch (fault) {
    case 'cut process':
      if (one !== undefined) network.cut({ process: one });
      return 0;
    case 'cut member':
      network.cut({ member: some });
      return 0;
    case 'member down':
    case 'all members down':
    case 'member silent': {
      const ms = random.between(50, fault === 'member silent' ? 10_000 : 6000);
      const struck = fault === 'all members down' ? members : [some];
      for (const member of struck) member.state = fault === 'member silent' ? 'silent' : 'down';
      timeline.after(ms, () => {
        for (const member of struck) member.state = 'up';
      });
      return ms;
    }
    case 'freeze': {
      if (one === undefined) return 0;
      const ms = random.between(10, 8000);
      one.freeze();
      stage.note({ atMs: world.nowMs, is: 'frozen', process: one.name });
      timeline.after(ms, () => {
        if (one.isDead) return;
        stage.note({ atMs: world.nowMs, is: 'thawed', process: one.name });
        one.thaw();
      });
      return ms;
    }
    case 'busy': {
      if (one === undefined) return 0;
      const ms = random.between(500, 5000);
      keepBusy(world, one, ms);
      return ms;
    }
    case 'kill':
      if (one === undefined) return 0;
      world.kill(one);
      stage.note({ atMs: world.nowMs, is: 'crashed', process: one.name });
      fleet.killed(one);
      return 0;
    case 'restart':
      network.cut();
      server.restart('all');
      return 0;
    case 'revoke': {
      const leases = server.member.table.byDeadline();
      if (leases.length > 0) stage.revoke(random.pick(leases).id);
      return 0;
    }
    case 'key removed': {
      const keys = server.member.store
        .range(keyRange(Buffer.of(0), Buffer.of(0)))
        .kvs.map(({ text }) => text);
      const may = keys.filter((key) => stage.removable.some((pattern) => pattern.test(key)));
      // What stands beside a line is there for a short time only.
      const beside = may.filter((key) => key.includes('.~'));
      const from = beside.length > 0 && random.chance(0.5) ? beside : may;
      if (from.length > 0) stage.remove(random.pick(from));
      return 0;
    }
    case 'compact': {
      const { store } = server.member;
      const revision = store.revision - BigInt(random.below(20));
      if (revision <= store.compactedRevision || revision <= 0n) return 0;
      store.compact(revision);
      stage.compacted(revision);
      return 0;
    }
    case 'wall clock':
      // Delays of jobs are by wall clocks: not so far that the end would have to wait for them.
      one?.moveWall(random.between(-3000, 3000));
      return 0;
    case 'lag': {
      const ms = random.between(20, 6000);
      some.lags = true;
      timeline.after(ms, () => {
        some.lags = false;
      });
      return ms;
    }
    case 'no leader': {
      const ms = random.between(10, random.pick([1500, 9000]));
      server.quorum.lose();
      timeline.after(ms, () => server.quorum.gain());
      return ms;
    }
    case 'no space': {
      const ms = random.between(50, 4000);
      fill(world, ms);
      return ms;
    }
    case 'watches refused': {
      const ms = random.between(50, 3000);
      server.gate.refusesWatches = true;
      timeline.after(ms, () => {
        server.gate.refusesWatches = false;
      });
      return ms;
    }
    case 'tokens forgotten':
      server.gate.forget();
      return 0;
    case 'emptied':
    case 'restored': {
      const { store } = server.member;
      const revision = store.revision - BigInt(random.below(20));
      network.cut();
      server.restart(fault === 'emptied' ? 'nothing' : { revision });
      stage.historyIsLost(server.member.store.revision);
      return 0;
    }
    case 'storm': {
      const ms = random.between(500, 6000);
      const latest = random.pick([5, 50, 400]);
      network.weather = {
        cuts: random.pick([0, 0.01, 0.05]),
        late: random.pick([0, 0.01, 0.03]),
        latencyMs: [0.2, latest],
      };
      timeline.after(ms, () => {
        network.weather = { cuts: 0, late: 0, latencyMs: [0.2, 2] };
      });
      return ms;
    }
  }
}

/** Its event loop is held up in slices, as by work that goes on between what comes to it. */
export function keepBusy({ nowMs, timeline }: World, process: SimProcess, ms: number): void {
  const slice = (): void => {
    if (process.isDead || timeline.nowMs > nowMs + ms) return;
    // Who is frozen stays so.
    const isRunning = process.isRunning;
    process.freeze();
    timeline.after(SLICE_MS, () => {
      if (isRunning) process.thaw();
      timeline.after(1, slice);
    });
  };
  slice();
}
