import { Client as Channel, type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { Client, ConclaveError } from 'conclave';
import type {
  WatchCreateRequestInput,
  WatchRequestInput,
  WatchResponse,
} from '#conclave/proto/messages.gen.js';
import type { ClientRpc } from '#conclave/proto/rpc.js';
import { services } from '#conclave/proto/services.js';
import { until } from '../../support/until.js';
import type { Now, Operation } from './operations.js';

/** What is left of an answer when all that rightly differs between two servers is taken out. */
export type Answer = unknown;

const OWN_FIELDS = new Set(['clusterId', 'memberId', 'raftTerm']);

/** Takes out who answered. */
function plain(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const parts = Object.entries(value).filter(([name]) => !OWN_FIELDS.has(name));
  return Object.fromEntries(parts.map(([name, part]) => [name, plain(part)]));
}

/** One of the two servers: carries operations out, and says what came of them. */
export class ServerSide {
  readonly client: Client;
  readonly #channel: Channel;
  readonly #names: string;
  #watches: ClientDuplexStream<WatchRequestInput, WatchResponse> | undefined;
  #seen = new Map<string, Answer[]>();
  #unanswered = 0;

  constructor(endpoint: string, name: string) {
    this.client = new Client({ endpoints: endpoint });
    this.#channel = new Channel(new URL(endpoint).host, credentials.createInsecure());
    this.#names = name;
  }

  /** The store's revision. */
  async revision(): Promise<bigint> {
    return (await this.client.kv.range('a')).revision;
  }

  /** Carries `operation` out. Never rejects: an error is an answer. */
  async run(operation: Operation, now: Now): Promise<Answer> {
    try {
      return plain(await this.#run(operation, now));
    } catch (error) {
      if (error instanceof ConclaveError)
        return { code: error.code, message: error.etcd?.message, status: error.etcd?.status };
      const failed = error as ServiceError;
      return { details: failed.details, error: failed.name, status: failed.code };
    }
  }

  /** What the watches of this run have brought so far, by watch. */
  get seen(): ReadonlyMap<string, readonly Answer[]> {
    return this.#seen;
  }

  /** Ends all watches and forgets what they brought. */
  unwatchAll(): void {
    this.#watches?.cancel();
    this.#watches = undefined;
    this.#seen = new Map();
    this.#unanswered = 0;
  }

  async close(): Promise<void> {
    this.unwatchAll();
    this.#channel.close();
    await this.client.close();
  }

  async #run(operation: Operation, now: Now): Promise<unknown> {
    const { kv, lease } = this.client;
    switch (operation.is) {
      case 'range':
        return kv.range(operation.range, operation.options(now));
      case 'put':
        return kv.put(operation.key, operation.value, operation.options);
      case 'delete':
        return kv.delete(operation.range, { prevKv: operation.prevKv });
      case 'txn':
        return kv.txn(operation.spec(now));
      case 'compact':
        return kv.compact(operation.revision(now), { physical: operation.physical });
      case 'grant':
        return this.#grant(operation.id, operation.ttl);
      case 'revoke':
        return this.#call(services.Lease.LeaseRevoke, { ID: operation.id });
      case 'timeToLive':
        return this.#timeToLive(operation.id, operation.keys);
      case 'keepAlive': {
        const { id, ttlSeconds } = await lease.keepAliveOnce(operation.id);
        return { id, ttlSeconds };
      }
      case 'leases':
        return [...(await lease.list())].sort();
      case 'rawRange':
        return this.#call(services.KV.Range, operation.request(now));
      case 'rawPut':
        return this.#call(services.KV.Put, operation.request);
      case 'rawDelete':
        return this.#call(services.KV.DeleteRange, operation.request);
      case 'rawTxn':
        return this.#call(services.KV.Txn, operation.request(now));
      case 'watch':
        return this.#watch(operation.request(now));
      case 'unwatch':
        return this.#unwatch(operation.watchId);
    }
  }

  /** A lease that could end while the test runs is ended at once. */
  async #grant(id: bigint, ttl: bigint): Promise<unknown> {
    const granted = await this.#call(services.Lease.LeaseGrant, { ID: id, TTL: ttl });
    if (ttl >= 100n) return granted;
    return { granted, revoked: await this.#call(services.Lease.LeaseRevoke, { ID: id }) };
  }

  /** The seconds left depend on the moment; that there are as many as there should be does not. */
  async #timeToLive(id: bigint, keys: boolean): Promise<unknown> {
    const life = await this.#call(services.Lease.LeaseTimeToLive, { ID: id, keys });
    const { TTL, grantedTTL } = life;
    return { ...life, TTL: TTL <= grantedTTL && TTL > grantedTTL - 60n ? 'as granted' : TTL };
  }

  #call<Request, Reply>(rpc: ClientRpc<Request, Reply>, request: NoInfer<Request>): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, reply?: Reply): void => {
        if (error !== null) reject(error);
        else resolve(reply as Reply);
      };
      const { path, requestSerialize, responseDeserialize } = rpc;
      const options = { deadline: Date.now() + 10_000 };
      this.#channel.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, done);
    });
  }

  /** Creates a watch and resolves when the server has answered that. */
  async #watch(request: WatchCreateRequestInput): Promise<unknown> {
    await this.#ask({ createRequest: request }, `${this.#names} creates a watch`);
    return undefined;
  }

  /** Cancels a watch; one that is not there gets no answer, so a creation after it shows that it has been read. */
  async #unwatch(watchId: bigint): Promise<unknown> {
    this.#stream().write({ cancelRequest: { watchId } });
    await this.#ask({ createRequest: { key: Buffer.from('none') } }, `${this.#names} cancels a watch`);
    return undefined;
  }

  async #ask(request: WatchRequestInput, what: string): Promise<void> {
    const stream = this.#stream();
    this.#unanswered += 1;
    stream.write(request);
    await until(() => this.#unanswered === 0, { what });
  }

  #stream(): ClientDuplexStream<WatchRequestInput, WatchResponse> {
    if (this.#watches !== undefined) return this.#watches;
    const { path, requestSerialize, responseDeserialize } = services.Watch.Watch;
    const stream = this.#channel.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    stream.on('data', (response: WatchResponse) => this.#note(response));
    stream.on('error', (error: ServiceError) => {
      if (this.#watches === stream) this.#list('stream').push({ details: error.details, status: error.code });
    });
    this.#watches = stream;
    return stream;
  }

  /** Notes what a response says, event by event: how they are put together rightly differs. */
  #note(response: WatchResponse): void {
    const list = this.#list(String(response.watchId));
    if (response.created) this.#unanswered -= 1;
    if (response.created || response.canceled) {
      const { watchId, created, canceled, cancelReason, compactRevision, header } = response;
      // A cancellation may come at any time.
      const revision = created ? header?.revision : undefined;
      list.push(plain({ cancelReason, canceled, compactRevision, created, revision, watchId }));
    }
    for (const event of response.events) list.push(plain(event));
  }

  #list(watch: string): Answer[] {
    const list = this.#seen.get(watch) ?? [];
    this.#seen.set(watch, list);
    return list;
  }
}
