// A small reference model of a line whose holds may be together: what it plays by a seed is a valid history.
import type { HistoryRecord } from 'conclave/testing';

import type { Random } from './mutations.js';

/** A read-write lock, or a semaphore of that limit. */
export type Kind = { readonly is: 'lock' } | { readonly is: 'semaphore'; readonly limit: number };

interface Ticket {
  attempt: number;
  readonly process: string;
  weight: number;
  told: boolean;
  frozen: boolean;
}

const NAME = 'x';

/** Plays so many steps, and ends with nothing held. */
export function playShared(random: Random, kind: Kind, steps = 120): HistoryRecord[] {
  const history: HistoryRecord[] = [];
  const line: Ticket[] = [];
  let limit = kind.is === 'lock' ? Infinity : kind.limit;
  let revision = 10n;
  let attempts = 0;
  const note = (process: string, record: object): void => {
    history.push({ atMs: history.length, name: NAME, process, ...record } as unknown as HistoryRecord);
  };
  const share = (weight: number): object => {
    if (kind.is === 'semaphore') return { weight };
    return { mode: weight === Infinity ? 'write' : 'read' };
  };
  const setLimit = (to: number): void => {
    limit = to;
    note('etcd', { is: 'limit', limit, revision: ++revision });
  };
  /** Those from the front on that fit; one that was told stays in. */
  const admitted = (): Ticket[] => {
    const inside: Ticket[] = [];
    let sum = 0;
    for (const ticket of line) {
      const isWriter = ticket.weight === Infinity;
      if (!ticket.told && (isWriter ? inside.length > 0 : sum + ticket.weight > limit)) break;
      inside.push(ticket);
      sum += ticket.weight;
      if (isWriter) break;
    }
    return inside;
  };
  const goes = (ticket: Ticket): void => {
    line.splice(line.indexOf(ticket), 1);
    note('etcd', { attempt: ticket.attempt, is: 'gone', revision: ++revision });
  };
  const arrive = (): void => {
    const process = `p${attempts}`;
    const attempt = ++attempts;
    const heaviest = kind.is === 'semaphore' ? limit : 1;
    const weight = kind.is === 'lock' && random.chance(0.3) ? Infinity : 1 + random.below(heaviest);
    note(process, { attempt, is: 'acquire', ...share(weight) });
    note(process, { attempt, createRevision: ++revision, is: 'queued' });
    line.push({ attempt, frozen: false, process, told: false, weight });
  };
  const convert = (ticket: Ticket, weight: number): void => {
    const { attempt: from, process } = ticket;
    if (weight === 1) note(process, { attempt: from, is: 'release' });
    ticket.attempt = ++attempts;
    ticket.weight = weight;
    note(process, { attempt: ticket.attempt, from, is: 'acquire', ...share(weight) });
    note(process, { attempt: ticket.attempt, is: 'held', token: ++revision });
  };
  const act = (ticket: Ticket): void => {
    const { attempt, process } = ticket;
    const what = random.below(8);
    if (what < 3)
      note(process, { attempt, is: 'guardedWrite', revision: random.chance(0.8) ? ++revision : undefined });
    else if (what < 5) {
      note(process, { attempt, is: 'release' });
      goes(ticket);
    } else if (what < 6) {
      note(process, { attempt, is: 'lossSignal' });
      goes(ticket);
    } else if (what < 7) {
      ticket.frozen = true;
      note(process, { is: 'frozen' });
      goes(ticket);
      if (random.chance(0.5)) return;
      note(process, { is: 'thawed' });
      note(process, { attempt, is: 'lossSignal' });
    } else if (kind.is === 'lock') {
      const isWriter = ticket.weight === Infinity;
      if (isWriter || admitted().length === 1) convert(ticket, isWriter ? 1 : Infinity);
    }
  };
  if (kind.is === 'semaphore') setLimit(kind.limit);
  for (let step = 0; step < steps || line.length > 0; step++) {
    const inside = admitted();
    const untold = inside.find(({ told }) => !told);
    const held = inside.filter(({ told }) => told);
    const what = random.below(10);
    if (what < 3 && step < steps) arrive();
    else if (what < 4 && kind.is === 'semaphore' && step < steps) setLimit(1 + random.below(kind.limit * 2));
    else if (what < 7 && untold !== undefined) {
      untold.told = true;
      note(untold.process, {
        attempt: untold.attempt,
        is: 'held',
        token: ++revision,
        ...share(untold.weight),
      });
    } else if (held.length > 0) act(random.pick(held));
    // What is too heavy after a shrink can never be had.
    else if (untold === undefined && line[0] !== undefined) {
      note(line[0].process, { attempt: line[0].attempt, is: 'gaveUp' });
      goes(line[0]);
    }
  }
  return history;
}
