// Small reference models of a barrier, a double barrier and a latch: what they play by a seed is a valid history.
import type { HistoryRecord } from 'conclave/testing';

import type { Random } from './mutations.js';

class Notes {
  readonly history: HistoryRecord[] = [];

  note(process: string, record: object): void {
    this.history.push({
      atMs: this.history.length,
      name: 'b',
      process,
      ...record,
    } as unknown as HistoryRecord);
  }
}

/** Holds that are released, reset or broken, and those who wait. */
export function playBarrier(random: Random, steps = 80): HistoryRecord[] {
  const notes = new Notes();
  let revision = 1n;
  let numbers = 0;
  let state: 'open' | 'held' | 'broken' = 'open';
  let holder = 0;
  const waiting: number[] = [];
  for (let step = 0; step < steps; step++) {
    const what = random.below(10);
    if (what < 3) {
      const wait = ++numbers;
      notes.note(`w${wait}`, { is: 'waits', wait });
      waiting.push(wait);
    } else if (what < 6 && waiting.length > 0) {
      const wait = random.pick(waiting);
      const outcome = { broken: 'broken', held: 'gaveUp', open: 'passed' }[state];
      if (state === 'held' && random.chance(0.8)) continue;
      waiting.splice(waiting.indexOf(wait), 1);
      notes.note(`w${wait}`, { is: 'waited', outcome, wait });
    } else if (what < 8 && state !== 'held') {
      const hold = ++numbers;
      holder = hold;
      state = 'held';
      notes.note(`h${hold}`, { hold, is: 'closing' });
      notes.note(`h${hold}`, { hold, is: 'closed', revision: ++revision });
    } else if (what < 9 && state !== 'open') {
      const reset = ++numbers;
      if (random.chance(0.5)) notes.note(`r${reset}`, { is: 'resets', reset });
      else if (state === 'held') notes.note(`h${holder}`, { hold: holder, is: 'mayOpen' });
      else continue;
      notes.note(`r${reset}`, { is: 'resetEnds', reset });
      state = 'open';
    } else if (state === 'held') {
      notes.note(`h${holder}`, { hold: holder, is: 'mayBreak' });
      state = 'broken';
    }
  }
  return notes.history;
}

interface Party {
  readonly party: number;
  readonly process: string;
  is: 'waits' | 'inside' | 'told' | 'gone';
  round: bigint;
}

/** Rounds whose parties are told in any order, give up, crash inside, and leave. */
export function playDoubleBarrier(random: Random, count: number, steps = 150): HistoryRecord[] {
  const notes = new Notes();
  const parties: Party[] = [];
  let revision = 1n;
  const tell = (party: Party, record: object): void =>
    notes.note(party.process, { party: party.party, ...record });
  const gone = (party: Party): void => {
    notes.note('etcd', { is: 'partyGone', party: party.party });
    party.is = 'gone';
  };
  const of = (...kinds: Party['is'][]): Party[] => parties.filter(({ is }) => kinds.includes(is));
  const leaving = new Set<Party>();
  for (let step = 0; step < steps; step++) {
    const what = random.below(10);
    if (what < 3) {
      const party: Party = {
        is: 'waits',
        party: parties.length,
        process: `p${parties.length}`,
        round: ++revision,
      };
      parties.push(party);
      tell(party, { count, is: 'enters' });
      notes.note('etcd', { createRevision: party.round, is: 'arrived', party: party.party });
    }
    const [waiting, inside] = [of('waits'), of('inside', 'told')];
    const last = waiting[count - 1];
    if (last !== undefined && inside.length === 0) {
      const round = last.round;
      for (const party of waiting.slice(0, count)) Object.assign(party, { is: 'inside', round });
    } else if (what === 3 && waiting.length > 0) {
      const party = random.pick(waiting);
      gone(party);
      tell(party, { is: 'enterEnds' });
    } else if (what === 4 && inside.length > 0 && random.chance(0.3)) {
      const party = random.pick(inside);
      notes.note(party.process, { is: 'crashed' });
      gone(party);
    } else if (what < 7 && of('inside').length > 0) {
      const party = random.pick(of('inside'));
      tell(party, { is: 'entered', round: party.round });
      party.is = 'told';
    } else if (what < 9 && of('told').length > 0) {
      const party = random.pick(of('told'));
      tell(party, { is: 'leaves' });
      gone(party);
      leaving.add(party);
    } else {
      for (const party of leaving) {
        if (inside.some(({ round }) => round === party.round)) continue;
        leaving.delete(party);
        tell(party, { is: 'left' });
      }
    }
  }
  return notes.history;
}

/** Calls whose answers come, come late or never, and reads. With tallies or without them. */
export function playLatch(random: Random, count: number, withTallies: boolean): HistoryRecord[] {
  const notes = new Notes();
  let revision = 1n;
  let sum = 0;
  let calls = 0;
  const open: { readonly call: number; readonly n: number; done: boolean }[] = [];
  for (let step = 0; step < 80; step++) {
    const what = random.below(10);
    if (what < 3) {
      const call = { call: ++calls, done: false, n: 1 + random.below(2) };
      notes.note(`p${call.call}`, { call: call.call, count, is: 'counting', n: call.n });
      open.push(call);
    } else if (what < 6 && open.length > 0) {
      const call = random.pick(open);
      if (!call.done && sum < count) {
        call.done = true;
        sum += call.n;
        revision++;
        if (withTallies) notes.note('etcd', { is: 'tally', key: `by/${call.call}`, n: call.n, revision });
        if (sum >= count) notes.note('etcd', { is: 'latchOpen', revision: ++revision });
      }
      if (random.chance(0.3)) continue;
      open.splice(open.indexOf(call), 1);
      const outcome = random.chance(0.2) ? 'unknown' : 'ok';
      notes.note(`p${call.call}`, { call: call.call, is: 'counted', outcome });
    } else if (what < 7) {
      const call = ++calls;
      notes.note(`r${call}`, { call, count, is: 'latchReads' });
      notes.note(`r${call}`, { call, is: 'latchRead', remaining: Math.max(0, count - sum) });
    }
  }
  return notes.history;
}
