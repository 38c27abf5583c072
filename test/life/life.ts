// Lets a program on `connect()` live through a random weather, and says whether all of it works again after each fault.
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client, connect } from 'conclave';

import { randomFrom } from '../support/children.js';
import { until } from '../support/until.js';
import { Fleet } from './fleet.js';
import { Weather } from './weather.js';

export interface LifeOptions {
  readonly seed: number;
  readonly seconds: number;
  /** Told of each fault, and of how long it took until everything worked again. */
  readonly log?: (line: string) => void;
}

/** What a life was like. */
export interface Life {
  readonly faults: number;
  /** The longest time from the end of a fault until every part had done something again. */
  readonly slowestMs: number;
  /** Bytes of heap after a full collection, a minute after the beginning and at the end; without `--expose-gc`, undefined. */
  readonly heap: { readonly first: number | undefined; readonly last: number | undefined };
  /** What must not have happened. */
  readonly findings: readonly string[];
  readonly sessionsLost: number;
}

/** Within this time after a fault everything must work again. A session lives for 3 s, and a wait for 20. */
const BOUND_MS = 60_000;
const LONGEST_FAULT_MS = 6000;

export async function live({ log = () => undefined, seconds, seed }: LifeOptions): Promise<Life> {
  const findings: string[] = [];
  const unhandled = (error: unknown): void => void findings.push(`unhandled: ${String(error)}`);
  process.on('unhandledRejection', unhandled);
  const before = handles();
  const weather = await Weather.start();
  const admin = new Client({ endpoints: weather.cluster.endpoints });
  try {
    const conclave = await connect({ endpoints: weather.endpoint, label: 'life', ttlSeconds: 3 });
    const fleet = new Fleet(conclave);
    const random = randomFrom(seed);
    const from = performance.now();
    let faults = 0;
    let slowestMs = 0;
    let first: number | undefined;
    const awaitAll = async (what: string): Promise<void> => {
      const { beats } = fleet;
      const since = performance.now();
      let silent: string[] = [];
      try {
        await until(() => (silent = fleet.silentSince(beats)).length === 0, { timeoutMs: BOUND_MS });
      } catch {
        const report = await fleet.report().catch(String);
        findings.push(`${what}: nothing of ${silent.join(', ')} in ${BOUND_MS} ms\n  ${report}`);
      }
      const tookMs = Math.round(performance.now() - since);
      slowestMs = Math.max(slowestMs, tookMs);
      log(`${what}: all works ${tookMs} ms later`);
    };
    await awaitAll('the beginning');
    while (performance.now() - from < seconds * 1000) {
      const kinds = Object.entries(weather.faults(admin));
      const [kind, happen] = kinds[Math.floor(random() * kinds.length)] ?? [];
      if (kind === undefined || happen === undefined) break;
      await sleep(random() * 1000);
      await happen(random() * LONGEST_FAULT_MS);
      faults += 1;
      await awaitAll(kind);
      if (findings.length > 0) break;
      if (first === undefined && performance.now() - from > 60_000) first = heapAfterCollection();
    }
    const last = heapAfterCollection();
    const { sessionsLost } = conclave.health();
    await fleet.end();
    findings.push(...fleet.findings);
    await admin.close();
    await weather.close();
    // Sockets end some turns of the loop after they were closed.
    const left = (): number => handles() - before;
    await until(() => left() <= 0).catch(() => findings.push(`${left()} handles are left`));
    return { faults, findings, heap: { first, last }, sessionsLost, slowestMs };
  } finally {
    await admin.close();
    await weather.cluster.close();
    process.removeListener('unhandledRejection', unhandled);
  }
}

/** How many sockets, servers and child processes keep this process busy. */
function handles(): number {
  return process.getActiveResourcesInfo().filter((kind) => /TCP|Pipe|Process/.test(kind)).length;
}

function heapAfterCollection(): number | undefined {
  if (globalThis.gc === undefined) return undefined;
  globalThis.gc();
  return process.memoryUsage().heapUsed;
}
