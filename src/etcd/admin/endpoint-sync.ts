/** Keeps a client's endpoints those that the members of the cluster advertise. */
import { ConclaveError } from '../../errors/conclave-error.js';
import { onAbort } from '../../util/abort.js';
import { Deferred } from '../../util/deferred.js';
import type { Timer } from '../../util/clock.js';
import type { CallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import type { Endpoint } from '../transport/endpoint.js';
import { limitsOf } from './admin-options.js';
import type { Cluster } from './cluster.js';

/** As often as wanted, the endpoints are what the member list says. */
export class EndpointSync {
  readonly #connection: Connection;
  readonly #cluster: Cluster;
  #timer: Timer | undefined;

  /** Without `intervalMs`, only when it is asked to. */
  constructor(connection: Connection, cluster: Cluster, intervalMs: number | undefined) {
    this.#connection = connection;
    this.#cluster = cluster;
    if (intervalMs === undefined) return;
    this.#next(intervalMs);
    onAbort(connection.closed, () => this.#timer?.cancel());
  }

  /**
   * Takes the client URLs of all members that have started and vote. They replace the endpoints only if one of them can be
   * connected to: what members advertise may be meant for others, such as `localhost` or the inside of a container.
   */
  async sync(options: CallOptions = {}): Promise<readonly string[]> {
    const limits = limitsOf(options, 'syncEndpoints');
    const members = await this.#cluster.memberList(limits);
    const urls = members
      .filter(({ isLearner, name }) => name !== '' && !isLearner)
      .flatMap(({ clientUrls }) => clientUrls);
    if (urls.length === 0)
      throw new ConclaveError('UNAVAILABLE', 'sync endpoints: no member advertises a client URL');
    const endpoints = this.#connection.named(urls);
    const { signal, timeoutMs = this.#connection.timeoutMs } = limits;
    if (!(await this.#isAnyUp(endpoints, timeoutMs, signal))) {
      signal?.throwIfAborted();
      const text = `sync endpoints: none of the URLs that the members advertise can be connected to: ${urls.join(', ')}; the endpoints stay as they were`;
      throw new ConclaveError('UNAVAILABLE', text);
    }
    this.#connection.replace(endpoints);
    return endpoints.map(({ url }) => url);
  }

  #next(intervalMs: number): void {
    this.#timer = this.#connection.clock.setTimer(intervalMs, () => {
      const next = (): void => {
        if (!this.#connection.closed.aborted) this.#next(intervalMs);
      };
      // What could not be learnt now is learnt the next time.
      this.sync().then(next, next);
    });
  }

  /** Whether one comes up in time. Those that are new and not taken are closed. */
  async #isAnyUp(
    endpoints: readonly Endpoint[],
    limitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { clock, closed } = this.#connection;
    const up = new Deferred<boolean>();
    const stop = new AbortController();
    const give = (isUp: boolean): void => {
      up.resolve(isUp);
      stop.abort();
    };
    const timer = clock.setTimer(limitMs, () => give(false));
    const stops = [signal, closed].map((each) => onAbort(each, () => give(false)));
    const all = endpoints.map(async (endpoint) => {
      if ((await endpoint.connect(stop.signal)) === 'ready') give(true);
    });
    void Promise.all(all).then(() => give(false));
    const isUp = await up.promise;
    timer.cancel();
    for (const each of stops) each();
    if (!isUp)
      for (const endpoint of endpoints) if (!this.#connection.endpoints.includes(endpoint)) endpoint.close();
    return isUp;
  }
}
