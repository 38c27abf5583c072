/**
 * What goes on inside, for whoever wants to look: channels of `node:diagnostics_channel`, which cost nothing while nobody
 * listens. docs/observability.md has the table of all of them. Values that users store are never in a message.
 */
import {
  type Channel,
  channel,
  subscribe,
  type TracingChannel,
  tracingChannel,
} from 'node:diagnostics_channel';
import { debuglog, inspect } from 'node:util';

type Message = Record<string, unknown>;
type Tracing = TracingChannel<unknown, Message>;

const traced = (name: string): Tracing => tracingChannel<unknown, Message>(`conclave:${name}`);
const plain = (name: string): Channel => channel(`conclave:${name}`);

/** From a start to an end: `start`, then `asyncEnd`, after an `error` if it failed; the same message object each time. */
export const tracing = {
  acquire: traced('acquire'),
  campaign: traced('campaign'),
  hold: traced('hold'),
  job: traced('job'),
  rpc: traced('rpc'),
} as const;

/** One message for each thing that happens. */
export const events = {
  endpoint: plain('endpoint'),
  loss: plain('loss'),
  session: plain('session'),
  stall: plain('stall'),
  watch: plain('watch'),
} as const;

/** Tells of something; `message` is made only if somebody listens. */
export function tell(of: keyof typeof events, message: () => Message): void {
  if (events[of].hasSubscribers) events[of].publish(message());
}

/** Something under way, of which somebody wants to hear. */
export interface Trace {
  /** It is over, and `more` is known of it now. */
  done(more?: Message): void;
  failed(error: unknown, more?: Message): void;
}

/** Whether somebody listens. */
export function isHeard(what: keyof typeof tracing): boolean {
  const { asyncEnd, error, start } = tracing[what];
  return start.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers;
}

/** Tells that something begins; undefined when nobody listens. */
export function begin(what: keyof typeof tracing, message: () => Message): Trace | undefined {
  if (!isHeard(what)) return undefined;
  const { asyncEnd, error: failed, start } = tracing[what];
  const told = message();
  start.publish(told);
  return {
    done: (more = {}) => asyncEnd.publish(Object.assign(told, more)),
    failed: (error, more = {}) => {
      failed.publish(Object.assign(told, more, { error }));
      asyncEnd.publish(told);
    },
  };
}

/** Does `work` as something that is told of; `more` says what else is known at its end, and of its result. */
export function trace<R>(
  what: keyof typeof tracing,
  message: () => Message,
  work: () => Promise<R>,
  more: (result?: R) => Message = () => ({}),
): Promise<R> {
  const telling = begin(what, message);
  return telling === undefined ? work() : followed(telling, work, more);
}

async function followed<R>(
  telling: Trace,
  work: () => Promise<R>,
  more: (result?: R) => Message,
): Promise<R> {
  try {
    const result = await work();
    telling.done(more(result));
    return result;
  } catch (error) {
    telling.failed(error, more());
    throw error;
  }
}

const debug = debuglog('conclave');
if (debug.enabled) {
  const print = (name: string) => (message: unknown) =>
    debug('%s %s', name, inspect(message, { breakLength: Infinity, depth: 1 }));
  for (const name of Object.keys(tracing)) {
    subscribe(`tracing:conclave:${name}:start`, print(`${name} …`));
    subscribe(`tracing:conclave:${name}:asyncEnd`, print(name));
  }
  for (const name of Object.keys(events)) subscribe(`conclave:${name}`, print(name));
}
