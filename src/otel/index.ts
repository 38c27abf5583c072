/** `conclave/otel`: what the channels tell (docs/observability.md) as spans and metrics of OpenTelemetry. */
export { instrument } from './instrument.js';
export type { Instrumentation, InstrumentOptions } from './instrument.js';
