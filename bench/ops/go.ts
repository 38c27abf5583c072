import { buildGo, runGo } from '../lib/go.js';
import { type Peer, type Workload, type WorkloadName, type Workloads, WORKLOADS } from './workloads.js';

/** Go's client and its concurrency package; undefined, after saying so, where it cannot be built. */
export function goClient(endpoint: string, prefix: string): Peer | undefined {
  const binary = buildGo();
  if (binary === undefined) return undefined;
  const workload =
    (name: WorkloadName): Workload =>
    async (seconds) => {
      const flags = ['-endpoint', endpoint, '-name', prefix, '-seconds', String(seconds)];
      return (await runGo(binary, [...flags, name]))[name] ?? Number.NaN;
    };
  const workloads: Workloads = {};
  for (const name of Object.keys(WORKLOADS) as WorkloadName[]) workloads[name] = workload(name);
  return { close: () => Promise.resolve(), name: 'Go clientv3', workloads };
}
