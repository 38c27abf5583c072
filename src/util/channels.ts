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

type Message = Record<string | symbol, unknown>;
type Tracing = TracingChannel<unknown, Message>;

const traced = (name: string): Tracing => tracingChannel<unknown, Message>(`conclave:${name}`);
const plain = (name: string): Channel => channel(`conclave:${name}`);

/** Does some work inside what a listener wants it to be inside, such as a context of OpenTelemetry. */
export type Around = <R>(work: () => R) => R;
/** Where a listener to `start` puts one on the message. Known to all copies of the package. */
export const AROUND: unique symbol = Symbol.for('conclave.around') as typeof AROUND;

/** From a start to an end: `start`, `end`, and later `asyncEnd`, after an `error` if it failed; the same message object each time. */
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

/** Whether somebody listens to what happens. */
export function isTold(of: keyof typeof events): boolean {
  return events[of].hasSubscribers;
}

/** Tells of something; `message` is made only if somebody listens. */
export function tell(of: keyof typeof events, message: () => Message): void {
  if (isTold(of)) events[of].publish(message());
}

/** Something under way, of which somebody wants to hear. */
export interface Trace {
  /** It is over, and `more` is known of it now. */
  done(more?: Message): void;
  failed(error: unknown, more?: Message): void;
}

/** Whether somebody listens. */
export function isHeard(what: keyof typeof tracing): boolean {
  const { asyncEnd, end, error, start } = tracing[what];
  return start.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers || end.hasSubscribers;
}

/** Tells that something begins; undefined when nobody listens. */
export function begin(what: keyof typeof tracing, message: () => Message): Trace | undefined {
  if (!isHeard(what)) return undefined;
  const told = message();
  tracing[what].start.publish(told);
  tracing[what].end.publish(told);
  return ending(what, told);
}

/**
 * Does `work` as something that is told of; `more` says what else is known at its end, and of its result. The stores that are
 * bound to `start` hold while it is done.
 */
export function trace<R>(
  what: keyof typeof tracing,
  message: () => Message,
  work: () => Promise<R>,
  more: (result?: R) => Message = () => ({}),
): Promise<R> {
  if (!isHeard(what)) return work();
  const { end, start } = tracing[what];
  const told = message();
  const working = start.runStores(told, () => (told[AROUND] as Around | undefined)?.(work) ?? work());
  end.publish(told);
  return followed(ending(what, told), working, more);
}

/** Tells of the end of what was told of when it began. As Node's `tracePromise`, which would tell the result too. */
function ending(what: keyof typeof tracing, told: Message): Trace {
  const { asyncEnd, asyncStart, error: failed } = tracing[what];
  const over = (): void => {
    asyncStart.publish(told);
    asyncEnd.publish(told);
  };
  return {
    done: (more = {}) => {
      Object.assign(told, more);
      over();
    },
    failed: (error, more = {}) => {
      failed.publish(Object.assign(told, more, { error }));
      over();
    },
  };
}

async function followed<R>(telling: Trace, working: Promise<R>, more: (result?: R) => Message): Promise<R> {
  try {
    const result = await working;
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
