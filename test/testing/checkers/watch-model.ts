// A small reference model of a store and of those who watch it: what it plays by a seed is a valid history.
import type { HistoryRecord, ChangedKey, ListedKey } from 'conclave/testing';

import type { Random } from './mutations.js';

type Told = ChangedKey & ListedKey;

const KEYS = ['a/1', 'a/2', 'a/3', 'b/1'];

interface Watcher {
  readonly watch: number;
  readonly prefix: string;
  next: bigint;
}

/** Plays commits, batches, reports, resumes, compactions and restarts with older data; at the end all have been told all. */
export function playWatches(random: Random, steps = 120): HistoryRecord[] {
  const history: HistoryRecord[] = [];
  let log: Told[] = [];
  let revision = 1n;
  let compacted = 0n;
  let watches = 0;
  const watchers: Watcher[] = [];
  const note = (process: string, record: object): void => {
    history.push({ atMs: history.length, process, ...record } as unknown as HistoryRecord);
  };
  const begin = (prefix: string, from: bigint): void => {
    const watcher = { next: from, prefix, watch: ++watches };
    watchers.push(watcher);
    note(`w${watches}`, { from, is: 'watchBegins', range: { prefix }, watch: watches });
  };
  const commit = (): void => {
    revision++;
    const keys = KEYS.filter(() => random.chance(0.4));
    const changes = (keys.length > 0 ? keys : ['a/1']).map((key): Told => {
      const kind = random.chance(0.7) ? 'put' : 'delete';
      return { key, kind, modRevision: revision };
    });
    log.push(...changes);
    note('etcd', { changes: changes.map(({ key, kind }) => ({ key, kind })), is: 'commit', revision });
  };
  const due = ({ next, prefix }: Watcher): Told[] =>
    log.filter(({ key, modRevision }) => modRevision >= next && key.startsWith(prefix));
  const relist = (watcher: Watcher): void => {
    const state = new Map<string, bigint>();
    for (const { key, kind, modRevision } of log) {
      if (!key.startsWith(watcher.prefix)) continue;
      if (kind === 'put') state.set(key, modRevision);
      else state.delete(key);
    }
    const snapshot = [...state].map(([key, modRevision]) => ({ key, modRevision }));
    watcher.next = revision + 1n;
    const { next: nextRevision, watch } = watcher;
    note(`w${watch}`, { events: [], is: 'watchBatch', nextRevision, revision, snapshot, watch });
  };
  const tell = (watcher: Watcher, all: boolean): void => {
    if (watcher.next <= compacted) {
      relist(watcher);
      return;
    }
    const waiting = due(watcher);
    const last = waiting[all ? waiting.length - 1 : random.below(waiting.length)]?.modRevision ?? 0n;
    const events = waiting.filter(({ modRevision }) => modRevision <= last);
    watcher.next = (events.at(-1)?.modRevision ?? revision) + 1n;
    const { next: nextRevision, watch } = watcher;
    note(`w${watch}`, { events, is: 'watchBatch', nextRevision, revision, watch });
  };
  for (let step = 0; step < steps; step++) {
    const what = random.below(20);
    const watcher = watchers.length > 0 ? random.pick(watchers) : undefined;
    if (what < 8) commit();
    else if (what < 10 && watchers.length < 4)
      begin(random.pick(['a/', 'b/', '']), random.chance(0.5) ? revision + 1n : compacted + 1n);
    else if (what < 17 && watcher !== undefined) tell(watcher, random.chance(0.3));
    else if (what === 17 && watcher !== undefined) {
      watchers.splice(watchers.indexOf(watcher), 1);
      note(`w${watcher.watch}`, { is: 'watchEnds', watch: watcher.watch });
      begin(watcher.prefix, watcher.next);
    } else if (what === 18 && random.chance(0.5)) {
      compacted = revision - BigInt(random.below(3));
      note('etcd', { is: 'compacted', revision: compacted });
    } else if (what === 19 && random.chance(0.2)) {
      const to = revision - BigInt(random.below(4));
      if (to <= compacted || to < 1n) continue;
      revision = to;
      log = log.filter(({ modRevision }) => modRevision <= to);
      note('etcd', { is: 'reverted', revision });
      for (const each of watchers) if (each.next > to + 1n) relist(each);
    }
  }
  for (const watcher of watchers) tell(watcher, true);
  return history;
}
