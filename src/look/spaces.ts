/** Barriers, latches and queues: what a few of their keys tell, however many they have. */
import { isInside, readyOf, seenParty } from '../barrier/round-view.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import type { QueueCounts } from '../queue/inspect/listing.js';
import { QueueKeys } from '../queue/store/keys.js';
import { isPaused } from '../queue/store/pause.js';
import { decodeRecord } from '../queue/store/record.js';
import { ownerOf, readOwner } from '../ticket/owner.js';
import type { Found, Moment, Wanted } from './moment.js';
import type { Name, Party } from './names.js';
import { partyOf } from './party.js';
import type { Space } from './seen-key.js';

/** A primitive that was found. */
export interface SpaceFound {
  readonly name: string;
  readonly space: Space;
  /** What all its keys begin with. */
  readonly prefix: string;
}

/** A name, and who waits, if its keys tell. */
export interface SpaceSeen {
  readonly name: Name;
  readonly waiters: readonly Party[];
}

/** How one kind is looked at: what it reads, and what that says; undefined: nothing that is there. */
interface Look {
  reads(prefix: string): readonly Wanted[];
  report(found: readonly Found[], name: string): SpaceSeen | undefined;
}

const prefixed = (prefix: string, options?: Wanted['options']): Wanted => ({
  range: { prefix },
  ...(options && { options }),
});

const LOOKS: Readonly<Record<Exclude<Space, 'queue'>, Look>> = {
  barrier: {
    reads: (prefix) => [
      { range: `${prefix}held` },
      { range: `${prefix}holder`, options: { keysOnly: true } },
    ],
    report: ([held, holder], name) => {
      const kv = held?.kvs[0];
      if (kv === undefined) return undefined;
      const bound = holder?.kvs[0];
      const isBroken = readOwner(kv)['ifHolderDies'] === 'break' && bound === undefined;
      const party = partyOf(kv, { bound });
      const state = isBroken ? 'broken' : 'held';
      return { name: { kind: 'barrier', name, holders: [party], waiting: 0, state }, waiters: [] };
    },
  },
  'double-barrier': {
    reads: (prefix) => [prefixed(`${prefix}party/`), { range: `${prefix}ready` }],
    report: ([found, ready], name) => {
      const parties = found?.kvs ?? [];
      if (parties.length === 0) return undefined;
      const round = readyOf(ready?.kvs[0]);
      const inside = parties.filter((kv) => isInside(seenParty(kv), round));
      const outside = inOrder(parties.filter((kv) => !inside.includes(kv)));
      const count = [...outside, ...inside].map((kv) => seenParty(kv).count)[0];
      const seen: Name = {
        kind: 'double-barrier',
        name,
        holders: inOrder(inside).map((kv) => partyOf(kv)),
        waiting: outside.length,
        oldestWait: outside.map((kv) => ownerOf(kv).since)[0],
        ...(count !== undefined && { count }),
        state: inside.length > 0 ? 'open' : 'held',
      };
      return { name: seen, waiters: outside.map((kv) => partyOf(kv)) };
    },
  },
  latch: {
    reads: (prefix) => [
      { range: `${prefix}count` },
      prefixed(`${prefix}by/`, { countOnly: true }),
      prefixed(`${prefix}by/many/`),
    ],
    report: ([first, by, many], name) => {
      const count = Number(first?.kvs[0]?.string());
      if (!Number.isSafeInteger(count) || count < 1) return undefined;
      const larger = many?.kvs ?? [];
      const sum = larger.reduce(
        (all, kv) => all + (Number(kv.string()) || 0),
        (by?.count ?? 0) - larger.length,
      );
      const remaining = Math.max(0, count - sum);
      const state = remaining === 0 ? 'open' : 'held';
      return { name: { kind: 'latch', name, holders: [], waiting: 0, state, count, remaining }, waiters: [] };
    },
  },
};

/** Reports all of these, as they were at one moment, in few requests. */
export async function readSpaces(moment: Moment, spaces: readonly SpaceFound[]): Promise<SpaceSeen[]> {
  const others = spaces.flatMap(({ name, prefix, space }) =>
    space === 'queue' ? [] : [{ look: LOOKS[space], name, reads: LOOKS[space].reads(prefix) }],
  );
  const found = await moment.read(others.flatMap(({ reads }) => reads));
  const names = others.map(({ look, name, reads }) => look.report(found.splice(0, reads.length), name));
  const queues = spaces.filter(({ space }) => space === 'queue');
  const read = await readQueues(
    moment,
    queues.map(({ name }) => name),
  );
  return [...names.filter((name) => name !== undefined), ...read.map((name) => ({ name, waiters: [] }))];
}

const STATES = ['waiting', 'delayed', 'active', 'dead'] as const;

async function readQueues(moment: Moment, names: readonly string[]): Promise<Name[]> {
  const queues = names.map((name) => ({ layout: new QueueKeys(name), name }));
  const found = await moment.read(
    queues.flatMap(({ layout }) => [
      { range: layout.paused },
      prefixed(layout.workers, { countOnly: true }),
      prefixed(layout.sequences, { keysOnly: true }),
      ...STATES.map((state) => prefixed(layout.prefixOf(state), { countOnly: true })),
    ]),
  );
  const seen = queues.map(({ layout, name }) => {
    const [paused, workers, sequences, ...counts] = found.splice(0, 3 + STATES.length);
    const [waiting = 0, delayed = 0, active = 0, dead = 0] = counts.map(({ count }) => count);
    const jobs: QueueCounts = { waiting, delayed, active, dead };
    // Of each priority the first: one of them has waited longest.
    const lines = (sequences?.kvs ?? []).map(({ key }) => `${key.slice(layout.sequences.length)}/`);
    const firsts = waiting === 0 ? [] : ['', ...lines].map((line) => layout.prefixOf('waiting') + line);
    return { firsts, isPaused: isPaused(paused?.kvs[0]), jobs, name, workers: workers?.count ?? 0 };
  });
  const heads = await moment.read(
    seen.flatMap(({ firsts }) => firsts.map((prefix) => prefixed(prefix, { limit: 1 }))),
  );
  return seen.map(({ firsts, isPaused: paused, jobs, name, workers }) => {
    const first = heads.splice(0, firsts.length).flatMap(({ kvs }) => kvs);
    const oldest = Math.min(...first.map((kv) => decodeRecord(kv).pushedAt));
    return {
      kind: 'queue',
      name,
      holders: [],
      waiting: jobs.waiting + jobs.delayed,
      oldestWait: Number.isFinite(oldest) ? new Date(oldest).toISOString() : undefined,
      state: paused ? 'paused' : 'running',
      jobs,
      workers,
    };
  });
}

function inOrder(kvs: readonly KeyValue[]): KeyValue[] {
  return [...kvs].sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
}
