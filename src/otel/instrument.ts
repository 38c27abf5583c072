/** Turns what the channels tell into spans and metrics, for every client of the process. */
import { metrics, type MeterProvider, trace, type TracerProvider } from '@opentelemetry/api';

import { checkOptions } from '../util/validate.js';
import { record } from './metrics.js';
import type { NameOf } from './naming.js';
import { span } from './spans.js';

/** Options of `instrument`. */
export interface InstrumentOptions {
  /** Where spans go. @default the process's, of `@opentelemetry/api` */
  readonly tracerProvider?: TracerProvider | undefined;
  /** Where metrics go. @default the process's */
  readonly meterProvider?: MeterProvider | undefined;
  /**
   * Reduces the name of a lock, election or semaphore (`orders/42`) to one of few (`orders/*`), or to none (`undefined`).
   * Without it spans have whole names and metrics none, since every name is a series of its own. Must not throw. Queues
   * keep their names.
   */
  readonly name?: NameOf | undefined;
}

/** What `instrument` set up. */
export interface Instrumentation extends Disposable {
  /** Ends it: nothing more is told. What has begun is not ended. */
  disable(): void;
}

const OPTIONS = ['tracerProvider', 'meterProvider', 'name'] as const;
const SCOPE = 'conclave';

/**
 * Begins to make spans and metrics; docs/observability.md has the table of them. Call it once, before or after the clients are
 * made: they all tell of themselves.
 */
export function instrument(options: InstrumentOptions = {}): Instrumentation {
  checkOptions(options, OPTIONS, 'instrument');
  const { name } = options;
  if (name !== undefined && typeof name !== 'function')
    throw new TypeError(`name must be a function, not ${typeof name}`);
  const stops = [
    span((options.tracerProvider ?? trace).getTracer(SCOPE), name),
    record((options.meterProvider ?? metrics).getMeter(SCOPE), name),
  ];
  const disable = (): void => {
    for (const stop of stops.splice(0)) stop();
  };
  return { disable, [Symbol.dispose]: disable };
}
