// conclave/otel: spans that lie in one another as the work does, metrics as docs/observability.md names them, and the Grafana
// dashboard, whose every query finds its series at OpenTelemetry's Prometheus exporter.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';

import { context, SpanStatusCode } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { connect, JobQueue, Mutex, Session } from 'conclave';
import { instrument } from 'conclave/otel';
import { type EtcdCluster, FaultProxy, startEtcd } from 'conclave/testing';

import { until } from '../support/until.js';

let etcd: EtcdCluster;
const contexts = new AsyncLocalStorageContextManager();
before(async () => {
  context.setGlobalContextManager(contexts.enable());
  etcd = await startEtcd();
});
after(async () => {
  context.disable();
  await etcd.close();
});

function tracing(): { readonly provider: BasicTracerProvider; readonly spans: () => ReadableSpan[] } {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  return { provider, spans: () => exporter.getFinishedSpans() };
}

/** What a Prometheus server would read. */
async function scraping(): Promise<
  AsyncDisposable & { readonly provider: MeterProvider; readonly scrape: () => Promise<string> }
> {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const provider = new MeterProvider({ readers: [exporter] });
  const server = createServer((request, response) => exporter.getMetricsRequestHandler(request, response));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    provider,
    scrape: async () => (await fetch(`http://127.0.0.1:${String(port)}/metrics`)).text(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await provider.shutdown();
    },
  };
}

test('spans: the wait, then the hold beside it; what a handler does is inside its job', async () => {
  const { provider, spans } = tracing();
  using _on = instrument({ tracerProvider: provider });
  const tracer = provider.getTracer('test');
  await using conclave = await connect({ endpoints: [etcd.endpoint] });
  await tracer.startActiveSpan('request', async (request) => {
    await conclave.mutex('otel/m').run(() => tracer.startSpan('work').end());
    request.end();
  });
  const lock = await conclave.mutex('otel/m').lock();
  const { session } = conclave;
  await using second = await Session.open(conclave.client);
  await assert.rejects(new Mutex(second, 'otel/m').lock({ timeoutMs: 50 }));
  await lock.unlock();
  await using queue = new JobQueue<string>(session, 'otel/q');
  await queue.push('secret', { id: 'fine' });
  await queue.push('secret', { id: 'fails', maxAttempts: 1 });
  await using worker = queue.process(async ({ id }) => {
    tracer.startSpan(`handler of ${id}`).end();
    await conclave.client.kv.get('otel/read');
    if (id === 'fails') throw new Error('no');
  });
  await queue.idle({ timeoutMs: 10_000 });
  await worker.stop();
  await queue.removeDead();

  const [all, named] = [spans(), (name: string) => spans().filter((span) => span.name === name)];
  const only = (name: string): ReadableSpan => named(name)[0] ?? assert.fail(`there is no span ${name}`);
  const parentOf = (span: ReadableSpan): string | undefined =>
    all.find((each) => each.spanContext().spanId === span.parentSpanContext?.spanId)?.name;
  assert.equal(parentOf(only('acquire mutex')), 'request');
  assert.equal(parentOf(only('hold mutex')), 'request');
  assert.equal(parentOf(only('work')), 'request');
  const txn = named('etcdserverpb.KV/Txn').find((span) => parentOf(span) === 'acquire mutex');
  assert.equal(txn?.attributes['rpc.method'], 'Txn');
  const { attributes } = only('acquire mutex');
  assert.deepEqual([attributes['conclave.name'], attributes['conclave.position']], ['otel/m', 0]);
  assert.equal(attributes['conclave.fencing_token'], only('hold mutex').attributes['conclave.fencing_token']);
  assert.equal(only('hold mutex').attributes['conclave.outcome'], 'released');
  const failed = named('acquire mutex').find(({ status }) => status.code === SpanStatusCode.ERROR);
  assert.equal(failed?.attributes['error.type'], 'TIMEOUT');
  for (const id of ['fine', 'fails']) assert.equal(parentOf(only(`handler of ${id}`)), 'process otel/q');
  // The wait that timed out has looked for a cycle, too.
  assert.deepEqual([...new Set(named('etcdserverpb.KV/Range').map(parentOf))].sort(), [
    'acquire mutex',
    'process otel/q',
  ]);
  const jobs = named('process otel/q').map(({ attributes: of, status }) => [
    of['messaging.message.id'],
    of['messaging.system'],
    status.code === SpanStatusCode.ERROR,
  ]);
  assert.deepEqual(jobs, [
    ['fine', 'conclave', false],
    ['fails', 'conclave', true],
  ]);
  assert.ok(!JSON.stringify(all.map((span) => [span.name, span.attributes])).includes('secret'));
});

test('a name is reduced, or left out, by the user’s function; disabled, nothing more is told', async () => {
  const { provider, spans } = tracing();
  await using prometheus = await scraping();
  const name = (whole: string, kind: string): string | undefined =>
    kind === 'mutex' ? whole.replace(/\d+$/, '*') : undefined;
  const on = instrument({ meterProvider: prometheus.provider, name, tracerProvider: provider });
  await using conclave = await connect({ endpoints: [etcd.endpoint] });
  await conclave.mutex('otel/42').run(() => undefined);
  await conclave.semaphore('otel/s/43', { limit: 1 }).run(() => undefined);
  const names = spans().map(({ attributes }) => attributes['conclave.name']);
  assert.deepEqual(new Set(names), new Set(['otel/*', undefined]));
  const text = await prometheus.scrape();
  assert.ok(/conclave_acquire_duration_count\{.*conclave_name="otel\/\*"/.test(text));
  assert.ok(!/otel\/(s\/)?4[23]/.test(text));
  on.disable();
  const count = spans().length;
  await conclave.mutex('otel/42').run(() => undefined);
  assert.equal(spans().length, count);
  for (const bad of [{ names: () => 'x' }, { name: 'x' }])
    assert.throws(() => instrument(bad as object), TypeError);
});

/** The series of a query, and the labels that it is grouped by. */
function seriesOf(query: string): { readonly metric: RegExp; readonly labels: readonly string[] } {
  const labels = [...query.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(/, ?/));
  const bare = query.replaceAll(/\bby \([^)]*\)/g, '').replaceAll(/\$\w+/g, '');
  const [, pattern] = /__name__=~"([^"]+)"/.exec(bare) ?? [];
  const words = [...bare.matchAll(/[a-z]\w+/g)].map(([word]) => word);
  const metrics = words.filter((word) => !['histogram_quantile', 'rate', 'sum'].includes(word));
  assert.ok(pattern !== undefined || metrics.length === 1, query);
  return { labels, metric: new RegExp(`^(?:${pattern ?? metrics[0] ?? ''})[{ ]`) };
}

test('each query of the Grafana dashboard finds its series', async () => {
  await using prometheus = await scraping();
  using _on = instrument({ meterProvider: prometheus.provider });
  await using one = await FaultProxy.start(etcd.endpoint);
  await using other = await FaultProxy.start(etcd.endpoint);
  await using conclave = await connect({ endpoints: [one.endpoint, other.endpoint], ttlSeconds: 2 });
  const { client, session } = conclave;
  await using queue = new JobQueue<string>(conclave, 'otel/dashboard');
  await queue.push('a', { maxAttempts: 1 });
  await using worker = queue.process(() => {
    throw new Error('no');
  });
  await queue.idle({ timeoutMs: 10_000 });
  const held = await conclave.mutex('otel/held').lock();
  const watcher = client.watch('otel/watched');
  await watcher.created;
  await one.refuse();
  one.cut();
  await client.kv.get('otel/watched');
  await one.accept();
  await other.refuse();
  other.cut();
  await client.kv.get('otel/watched');
  await client.lease.revoke(session.leaseId);
  await until(() => !held.held);
  await until(async () => {
    const from = performance.now();
    while (performance.now() - from < 200);
    return (await prometheus.scrape()).includes('conclave_stall_duration_bucket');
  });
  await worker.stop();
  await queue.removeDead();
  watcher.close();

  const text = await prometheus.scrape();
  const { panels } = JSON.parse(readFileSync('docs/grafana-dashboard.json', 'utf8')) as {
    readonly panels: readonly { readonly targets: readonly { readonly expr: string }[] }[];
  };
  const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  assert.ok(queries.length > 10);
  const lines = text.split('\n');
  for (const query of queries) {
    const { labels, metric } = seriesOf(query);
    const found = lines.filter((line) => metric.test(line));
    assert.ok(
      found.some((line) => labels.every((label) => line.includes(`${label}="`))),
      `nothing for ${query}: ${String(found.length)} lines without a label`,
    );
  }
  const docs = readFileSync('docs/observability.md', 'utf8');
  const instruments = [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, metric = '']) => metric);
  for (const metric of instruments.filter((each) => each !== 'target_info')) {
    const plain = docs.replaceAll('.', '_');
    assert.ok(plain.includes(metric.replace(/(_seconds|_total)+$/, '')), `${metric} is not in the docs`);
  }
});
