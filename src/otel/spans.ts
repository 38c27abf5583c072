/**
 * Spans: waiting, holding, a job, a call. What is done while one is asked for or worked on is inside it; a hold is beside the
 * wait that led to it, which is over before the hold is.
 */
import {
  type Attributes,
  context,
  type Context,
  createContextKey,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api';

import { type Around, AROUND } from '../util/channels.js';
import { thrownText } from '../util/warn.js';
import { onTraced, type Told } from './listen.js';
import { errorType, kindOf, messagingOf, type NameOf, rpcOf } from './naming.js';

/** Where the caller was who asked for what is now waited for. */
const CALLER = createContextKey('conclave caller');

/** Makes spans. Returns how to stop. */
export function span(tracer: Tracer, nameOf: NameOf | undefined): () => void {
  const spans = new WeakMap<Told, Span>();

  const begin = (
    told: Told,
    name: string,
    kind: SpanKind,
    attributes: Attributes,
    parent: Context,
  ): Context => {
    const made = tracer.startSpan(name, { attributes, kind }, parent);
    spans.set(told, made);
    return trace.setSpan(parent, made);
  };
  const end = (more: (told: Told) => Attributes) => (told: Told) => {
    const ended = spans.get(told);
    if (ended === undefined) return;
    spans.delete(told);
    ended.setAttributes({ ...more(told), ...errorType(told) });
    const { error } = told;
    if (error !== undefined) {
      ended.recordException(error instanceof Error ? error : thrownText(error));
      ended.setStatus({ code: SpanStatusCode.ERROR, message: thrownText(error) });
    }
    ended.end();
  };
  const whole: NameOf = nameOf ?? ((name) => name);
  const named = (told: Told): Attributes => {
    const name = whole(String(told['name']), kindOf(told));
    return { 'conclave.kind': kindOf(told), ...(name === undefined ? {} : { 'conclave.name': name }) };
  };
  const wait = (verb: string) => (told: Told) => {
    const caller = context.active();
    const inside = begin(told, `${verb} ${kindOf(told)}`, SpanKind.INTERNAL, named(told), caller);
    told[AROUND] = within(inside.setValue(CALLER, caller));
  };
  const hold = (told: Told): void => {
    const caller = (context.active().getValue(CALLER) as Context | undefined) ?? context.active();
    begin(told, `hold ${kindOf(told)}`, SpanKind.INTERNAL, { ...named(told), ...tokenOf(told) }, caller);
  };
  const job = (told: Told): void => {
    const attributes = {
      ...messagingOf(told),
      ...tokenOf(told),
      'conclave.attempt': Number(told['attempt']),
      'messaging.message.id': String(told['id']),
    };
    const name = `process ${String(told['queue'])}`;
    told[AROUND] = within(begin(told, name, SpanKind.CONSUMER, attributes, context.active()));
  };
  /** Calls of nobody's, such as a queue's upkeep, make no traces of their own. */
  const call = (told: Told): void => {
    if (trace.getSpan(context.active()) === undefined) return;
    const { 'rpc.method': method, 'rpc.service': service } = rpcOf(told);
    begin(told, `${String(service)}/${String(method)}`, SpanKind.CLIENT, rpcOf(told), context.active());
  };

  const nothing = (): Attributes => ({});
  const waited = (told: Told): Attributes => ({ ...tokenOf(told), ...positionOf(told) });
  const outcome = ({ outcome }: Told): Attributes => ({ 'conclave.outcome': String(outcome) });
  const stops = [
    onTraced('acquire', wait('acquire'), end(waited)),
    onTraced('campaign', wait('campaign'), end(waited)),
    onTraced('hold', hold, end(outcome)),
    onTraced('job', job, end(nothing)),
    onTraced('rpc', call, end(nothing)),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

function within(inside: Context): Around {
  return (work) => context.with(inside, work);
}

function tokenOf({ fencingToken }: Told): Attributes {
  return typeof fencingToken === 'bigint' ? { 'conclave.fencing_token': String(fencingToken) } : {};
}

function positionOf({ position }: Told): Attributes {
  return typeof position === 'number' ? { 'conclave.position': position } : {};
}
