import { EmbeddedServer } from 'conclave/embedded';
import { startEtcd } from 'conclave/testing';

/** The server that a run measures. */
export interface BenchServer extends AsyncDisposable {
  readonly endpoint: string;
  /** What it is, for the report: `etcd 3.5.16`, `embedded`, or the endpoint that was given. */
  readonly name: string;
}

/** The server at `endpoint`; else the embedded one, or a real etcd of our own, both gone when it is disposed. */
export async function openServer(endpoint: string | undefined, embedded: boolean): Promise<BenchServer> {
  if (endpoint !== undefined) {
    return { endpoint, name: endpoint, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  if (embedded) {
    const server = await EmbeddedServer.start();
    return { endpoint: server.endpoint, name: 'embedded', [Symbol.asyncDispose]: () => server.close() };
  }
  const etcd = await startEtcd();
  return { endpoint: etcd.endpoint, name: `etcd ${etcd.version}`, [Symbol.asyncDispose]: () => etcd.close() };
}

/**
 * Ends this process when the run has taken longer than it may: a benchmark that hangs has failed. It does not keep the
 * process running.
 */
export function endAfter(limitMs: number): void {
  setTimeout(() => {
    console.error(
      `the run took more than ${String(Math.round(limitMs / 1000))} s, which it never should; giving up`,
    );
    process.exit(1);
  }, limitMs).unref();
}
