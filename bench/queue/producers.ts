/**
 * Counts what 1, 4, 16 and 48 producers push to one queue, each a process of its own that pushes one job after the other,
 * over links of 0 to 20 ms there and back. Prints one line of JSON for each number of producers.
 *
 * With `--plain` each reads a key and puts another one instead of pushing, which is as many requests: what this machine has
 * left for so many processes.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FaultProxy } from 'conclave/testing';
import { endAfter, openServer } from '../lib/server.js';
import type { Pushed } from './producer.js';

const USAGE = `npm run bench:producers -- [--producers 1,4,16,48] [--seconds 3] [--plain] [--endpoints URL] [--embedded]
  --plain      read a key and put one, instead of pushing
  --endpoints  measure this server; by default a real etcd of its own
  --embedded   measure Conclave's embedded server`;

/** How much the links add there and back; the producers have them in turn. */
const LINKS_MS = [0, 2, 5, 10, 20] as const;
const program = fileURLToPath(new URL('producer.js', import.meta.url));

const { values } = parseArgs({
  options: {
    embedded: { type: 'boolean' },
    endpoints: { type: 'string' },
    help: { type: 'boolean' },
    plain: { type: 'boolean' },
    producers: { default: '1,4,16,48', type: 'string' },
    seconds: { default: '3', type: 'string' },
  },
});

/** What a child says next; rejects when it ends instead. */
async function said(child: ChildProcess): Promise<unknown> {
  const over = new AbortController();
  const { signal } = over;
  try {
    const ended = once(child, 'exit', { signal }).then(([code]) => {
      throw new Error(`a producer has ended with ${String(code)}`);
    });
    const [message] = (await Promise.race([once(child, 'message', { signal }), ended])) as [unknown];
    return message;
  } finally {
    over.abort();
  }
}

/** What so many producers push at the same time, over these endpoints in turn. */
async function measure(endpoints: readonly string[], producers: number, forMs: number): Promise<Pushed[]> {
  const what = values.plain === true ? 'plain' : 'push';
  const children = Array.from({ length: producers }, (_, at) =>
    fork(program, [endpoints[at % endpoints.length] ?? '', `producers-${String(producers)}`, what], {
      execArgv: [],
    }),
  );
  const gone = children.map((child) => once(child, 'exit'));
  try {
    await Promise.all(children.map(said));
    for (const child of children) child.send(forMs);
    const pushed = (await Promise.all(children.map(said))) as Pushed[];
    await Promise.all(gone);
    return pushed;
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

async function main(): Promise<number> {
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const sizes = values.producers.split(',').map(Number);
  const seconds = Number(values.seconds);
  if (!(seconds > 0) || !sizes.every((size) => Number.isSafeInteger(size) && size > 0)) {
    console.error(USAGE);
    return 2;
  }
  endAfter(sizes.length * (60_000 + seconds * 1000));
  await using server = await openServer(values.endpoints, values.embedded === true);
  const proxies = await Promise.all(LINKS_MS.slice(1).map(() => FaultProxy.start(server.endpoint)));
  for (const [at, proxy] of proxies.entries()) proxy.delay((LINKS_MS[at + 1] ?? 0) / 2);
  let alone: number | undefined;
  try {
    for (const producers of sizes) {
      const endpoints = [server.endpoint, ...proxies.map(({ endpoint }) => endpoint)];
      const pushed = await measure(endpoints, producers, seconds * 1000);
      const perSecond = Math.round(pushed.reduce((sum, { pushes }) => sum + pushes, 0) / seconds);
      alone ??= perSecond;
      const line = {
        server: server.name,
        what: values.plain === true ? 'get and put' : 'push',
        producers,
        linksMs: LINKS_MS.slice(0, producers),
        perSecond,
        ofTheFirst: Number((perSecond / alone).toFixed(2)),
        slowestMs: Math.round(Math.max(...pushed.map((each) => each.slowestMs))),
        fewest: Math.min(...pushed.map(({ pushes }) => pushes)),
      };
      console.log(JSON.stringify(line));
    }
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.close()));
  }
  return 0;
}

process.exitCode = await main();
