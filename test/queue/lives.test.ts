/** The tables of the lives of a worker, a consumer and a job: each state under each event, whatever their order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  CONSUMER_LIFE,
  type ConsumerEvent,
  type ConsumerState,
  following,
  JOB_LIFE,
  type JobLife,
  type JobLifeEvent,
  type Settling,
  type Table,
  WORKER_LIFE,
  type WorkerEvent,
  type WorkerState,
} from '#conclave/queue/consume/lives.js';

/** One row for each state: what it is after each event, `.` where nothing changes. */
function tabled<S extends { readonly is: string }, E extends { readonly what: string }>(
  table: Table<S, E>,
  states: readonly S[],
  events: readonly E[],
  name: (state: S) => string,
): string[] {
  return states.map((state) => {
    const cells = events.map((event) => {
      const next = following(table, state, event);
      return next === state ? '.' : name(next);
    });
    return [`${name(state)}:`, ...cells].join(' ');
  });
}

/** Every state that can be reached, by every order of the events. */
function reached<S extends { readonly is: string }, E extends { readonly what: string }>(
  table: Table<S, E>,
  first: S,
  events: readonly E[],
): S[] {
  const found = new Map<string, S>();
  const visit = (state: S): void => {
    const key = JSON.stringify(state);
    if (found.has(key)) return;
    found.set(key, state);
    for (const event of events) visit(following(table, state, event));
  };
  visit(first);
  return [...found.values()];
}

test('a worker drains once, leaves once, and keeps the reason with which it began to end', () => {
  const error = 'why';
  const request = { by: 'request' } as const;
  const failure = { by: 'failure', error } as const;
  const states: WorkerState[] = [
    { is: 'working' },
    { end: request, is: 'draining', timeoutMs: 5 },
    { end: failure, is: 'draining', timeoutMs: 7 },
    { end: failure, is: 'leaving' },
    { end: failure, is: 'stopped' },
  ];
  const events: WorkerEvent[] = [
    { timeoutMs: 5, what: 'stop' },
    { error, timeoutMs: 7, what: 'failed' },
    { what: 'drained' },
    { what: 'late' },
    { what: 'left' },
  ];
  const name = (state: WorkerState): string =>
    state.is === 'working' ? state.is : `${state.is}-${state.end.by}`;
  assert.deepEqual(tabled(WORKER_LIFE, states, events, name), [
    'working: draining-request draining-failure . . .',
    'draining-request: . . leaving-request leaving-request .',
    'draining-failure: . . leaving-failure leaving-failure .',
    'leaving-failure: . . . . stopped-failure',
    'stopped-failure: . . . . .',
  ]);
});

test('a consumer that nobody uses leaves, one that is over takes nobody, and what has left never comes back', () => {
  const states: ConsumerState[] = [
    { is: 'joining' },
    { is: 'open' },
    { is: 'idle' },
    { is: 'over', reason: 'why' },
    { is: 'leaving' },
    { is: 'gone' },
  ];
  const events: ConsumerEvent[] = [
    { what: 'opened' },
    { reason: 'why', what: 'failed' },
    { what: 'used' },
    { what: 'unused' },
    { what: 'dismissed' },
    { what: 'left' },
  ];
  assert.deepEqual(
    tabled(CONSUMER_LIFE, states, events, ({ is }) => is),
    [
      'joining: open over . . leaving .',
      'open: . over . idle . .',
      'idle: . leaving open . leaving .',
      'over: . . . leaving . .',
      'leaving: . . . . . gone',
      'gone: . . . . . .',
    ],
  );
  assert.equal(reached(CONSUMER_LIFE, { is: 'joining' }, events).length, states.length);
});

test('a job is settled once, is its own again when that is refused, and is given back once it is recalled', () => {
  const done = Promise.resolve();
  const ack: Settling = { done, kind: 'ack' };
  const release: Settling = { done, kind: 'release' };
  const events: JobLifeEvent[] = [
    { settling: ack, what: 'settle' },
    { settling: release, what: 'settle' },
    { what: 'settled' },
    { what: 'declined' },
    { what: 'refused' },
    { what: 'recall' },
    { what: 'lost' },
  ];
  const name = (state: JobLife): string => {
    if (state.is === 'held') return state.declined ? 'declined' : 'held';
    if (state.is === 'settling') return `${state.settling.kind}(${name(state.otherwise)})`;
    return 'settling' in state ? `${state.is}(${state.settling.kind})` : state.is;
  };
  const states = reached(JOB_LIFE, { declined: false, is: 'held' }, events);
  assert.deepEqual(tabled(JOB_LIFE, states, events, name).sort(), [
    'ack(declined): . . settled(ack) declined declined ack(recalled) lost(ack)',
    'ack(held): . . settled(ack) declined held ack(recalled) lost(ack)',
    'ack(recalled): . . settled(ack) recalled recalled ack(recalled) lost(ack)',
    'declined: ack(declined) release(declined) . . . recalled lost',
    'held: ack(held) release(held) . . . recalled lost',
    'lost(ack): . . . . . . .',
    'lost(release): . . . . . . .',
    'lost: . . . . . . .',
    'recalled: . release(recalled) . . . . lost',
    'release(declined): . . settled(release) declined declined release(recalled) lost(release)',
    'release(held): . . settled(release) declined held release(recalled) lost(release)',
    'release(recalled): . . settled(release) recalled recalled release(recalled) lost(release)',
    'settled(ack): . . . . . . .',
    'settled(release): . . . . . . .',
  ]);
});
