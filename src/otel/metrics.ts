/** Metrics: how long is waited and held, how many wait and hold, what was lost, jobs, calls, watches. Durations in seconds. */
import type { Attributes, Histogram, Meter } from '@opentelemetry/api';

import { onEvent, onTraced, type Told } from './listen.js';
import { about, errorType, messagingOf, type NameOf, rpcOf } from './naming.js';

/** Boundaries from a millisecond to an hour: a wait for a lock may be either. */
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600];

/** Records metrics. Returns how to stop. */
export function record(meter: Meter, nameOf: NameOf | undefined): () => void {
  const duration = (name: string, description: string): Histogram =>
    meter.createHistogram(name, {
      advice: { explicitBucketBoundaries: SECONDS },
      description,
      unit: 's',
    });
  const stops = [
    ...recordLocks(meter, duration, nameOf),
    ...recordJobs(meter, duration),
    ...recordEvents(meter, duration),
    timed('rpc', duration('rpc.client.call.duration', 'Calls to etcd, from when they are asked for'), rpcOf),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

type Duration = (name: string, description: string) => Histogram;

/** Records how long each thing took, under what it is and how it failed. */
function timed(channel: string, histogram: Histogram, of: (told: Told) => Attributes): () => void {
  const begun = new WeakMap<Told, number>();
  return onTraced(
    channel,
    (told) => begun.set(told, performance.now()),
    (told) => {
      const from = begun.get(told);
      if (from !== undefined) histogram.record(secondsSince(from), { ...of(told), ...errorType(told) });
    },
  );
}

function recordLocks(meter: Meter, duration: Duration, nameOf: NameOf | undefined): (() => void)[] {
  const acquire = duration(
    'conclave.acquire.duration',
    'From asking for a lock or leadership to having it, or not',
  );
  const hold = duration('conclave.hold.duration', 'How long locks and leaderships were held');
  const waiting = meter.createUpDownCounter('conclave.waiting', {
    description: 'Who waits for something, now',
  });
  const held = meter.createUpDownCounter('conclave.held', { description: 'What is held, now' });
  const losses = meter.createCounter('conclave.losses', {
    description: 'Holds and claimed jobs that were lost',
  });
  const of = (told: Told): Attributes => about(told, nameOf);
  const asked = (told: Told): Attributes => ({ ...of(told), 'conclave.outcome': outcomeOf(told) });
  const ended = (told: Told): Attributes => ({ ...of(told), 'conclave.outcome': String(told['outcome']) });
  return [
    timed('acquire', acquire, asked),
    timed('campaign', acquire, asked),
    timed('hold', hold, ended),
    counted('acquire', (by, told) => waiting.add(by, of(told))),
    counted('campaign', (by, told) => waiting.add(by, of(told))),
    counted('hold', (by, told) => held.add(by, of(told))),
    onEvent('loss', (told) => losses.add(1, { ...of(told), ...errorType(told) })),
  ];
}

function recordJobs(meter: Meter, duration: Duration): (() => void)[] {
  const process = duration('messaging.process.duration', 'How long handlers worked on jobs');
  const consumed = meter.createCounter('messaging.client.consumed.messages', {
    description: 'Jobs that handlers were given',
    unit: '{message}',
  });
  const running = meter.createUpDownCounter('conclave.jobs.running', {
    description: 'Jobs with a handler, now',
  });
  return [
    timed('job', process, messagingOf),
    counted('job', (by, told) => {
      running.add(by, { 'messaging.destination.name': String(told['queue']) });
      if (by < 0) consumed.add(1, { ...messagingOf(told), ...errorType(told) });
    }),
  ];
}

function recordEvents(meter: Meter, duration: Duration): (() => void)[] {
  const lag = duration('conclave.watch.lag', 'How long a watch that went on had heard nothing');
  const watches = meter.createCounter('conclave.watch.events', {
    description: 'Watches resumed, relisted, or cut off',
  });
  const stalls = duration(
    'conclave.stall.duration',
    'By how much a keepalive was late: a busy event loop, or a freeze',
  );
  const moves = meter.createCounter('conclave.endpoint.changes', { description: 'Moves to another member' });
  const sessions = meter.createUpDownCounter('conclave.sessions', {
    description: 'Sessions in each state, now',
  });
  const lost = meter.createCounter('conclave.session.losses', { description: 'Sessions that were lost' });
  const states = new Map<unknown, string>();
  const move = ({ error, leaseId, state }: Told): void => {
    const before = states.get(leaseId);
    if (before !== undefined) sessions.add(-1, { 'conclave.state': before });
    states.delete(leaseId);
    if (state === 'lost') lost.add(1, errorType({ error }));
    if (state !== 'active' && state !== 'jeopardy') return;
    states.set(leaseId, state);
    sessions.add(1, { 'conclave.state': state });
  };
  return [
    onEvent('watch', ({ event, lagMs }) => {
      watches.add(1, { 'conclave.watch.event': String(event) });
      if (typeof lagMs === 'number') lag.record(lagMs / 1000);
    }),
    onEvent('stall', ({ lateMs }) => stalls.record(Number(lateMs) / 1000)),
    onEvent('endpoint', ({ to }) => moves.add(1, { 'server.address': String(to) })),
    onEvent('session', move),
  ];
}

/** Adds one at the start, and takes it away at the end. What began before we listened is not counted. */
function counted(channel: string, add: (by: 1 | -1, told: Told) => void): () => void {
  const begun = new WeakSet<Told>();
  return onTraced(
    channel,
    (told) => {
      begun.add(told);
      add(1, told);
    },
    (told) => {
      if (begun.delete(told)) add(-1, told);
    },
  );
}

/** Of what was asked for: had, found taken, or not had. */
function outcomeOf({ error, fencingToken }: Told): string {
  if (error !== undefined) return 'failed';
  return fencingToken === undefined ? 'taken' : 'held';
}

function secondsSince(from: number): number {
  return (performance.now() - from) / 1000;
}
