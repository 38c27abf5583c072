/** One member of the simulated etcd: a way into it, which may be closed, silent, or behind the others. */
import type { RangeRequest, RangeResponse, WatchRequest, WatchResponse } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { carrierOf } from './carried.js';
import { joinBatches } from './late-batches.js';
import type { Need } from './quorum.js';
import type { Answer, ClientEnd, ServerEnd, SimServer } from './sim-server.js';
import type { Login } from './token-gate.js';
import type { Timeline } from './timeline.js';

/** A call as it arrives. */
export interface Arrived {
  readonly path: string;
  readonly request: unknown;
  /** Of keys and values. */
  readonly bytes: number;
  readonly token: string | undefined;
}

type State = 'up' | 'down' | 'silent';

export class SimMember {
  readonly url: string;
  readonly #timeline: Timeline;
  readonly #server: SimServer;
  #state: State = 'up';
  #cut: () => void = () => undefined;
  /** What has been sent while it was silent. */
  #waiting: (() => void)[] = [];
  /** The last revision that it has, while it lags behind. */
  #lastRevision: bigint | undefined;
  /** What it says when it has caught up. */
  readonly #late: (() => void)[] = [];

  constructor(url: string, timeline: Timeline, server: SimServer) {
    this.url = url;
    this.#timeline = timeline;
    this.#server = server;
  }

  /** Takes connections, and answers; silent: as one that is stopped, or cut off from the network: connections stay, and nothing comes or goes. */
  get state(): State {
    return this.#state;
  }

  set state(state: State) {
    this.#state = state;
    // TCP loses no single message: connections go with it.
    if (state === 'down') this.#cut();
    if (state !== 'silent')
      for (const pass of this.#waiting.splice(0)) this.#timeline.after(0, () => this.pass(pass));
  }

  /** @internal How its connections are cut. */
  set cut(cut: () => void) {
    this.#cut = cut;
  }

  /**
   * Whether it is behind the others: serializable reads show what was; what needs the newest revision is done, but answered
   * only when it has caught up, and watches tell nothing until then.
   */
  get lags(): boolean {
    return this.#lastRevision !== undefined;
  }

  set lags(lags: boolean) {
    if (lags === this.lags) return;
    this.#lastRevision = lags ? this.#server.member.store.revision : undefined;
    if (!lags) for (const say of this.#late.splice(0)) say();
  }

  /** Something is sent to it, or by it. */
  pass(arrive: () => void): void {
    if (this.#state === 'up') arrive();
    else if (this.#state === 'silent') this.#waiting.push(arrive);
  }

  /** Answers a call, at once or later; perhaps never. */
  answer(call: Arrived, reply: (answer: Answer) => void): void {
    const { bytes, path, request, token } = call;
    const { gate, quorum } = this.#server;
    if (!gate.isAuthenticate(path)) {
      const refusal = gate.refusal(token);
      if (refusal !== undefined) {
        reply(refusal);
        return;
      }
    }
    const answer = (): Answer =>
      gate.isAuthenticate(path)
        ? gate.authenticate(request as Login)
        : this.#server.answer(path, request, bytes);
    // What it is matters only then; most of the time nobody need look.
    if (quorum.hasLeader && !this.lags) {
      reply(answer());
      return;
    }
    const need = needOf(call);
    if (need === undefined)
      reply(path === services.KV.Range.path ? this.#readHere(request as RangeRequest) : answer());
    else
      quorum.ask(
        need,
        () => {
          const decided = answer();
          this.#say(() => reply(decided));
        },
        (code, details) => reply({ code, details }),
      );
  }

  /** Opens a stream. Undefined: it knows no such call. */
  open(path: string, token: string | undefined, client: ClientEnd): ServerEnd | undefined {
    if (path === services.Watch.Watch.path) return this.#openWatch(path, token, client);
    const end = this.#server.open(path, client);
    if (end === undefined) return undefined;
    const receive = (message: unknown): void =>
      this.#server.quorum.ask(
        'renewal',
        () => end.receive(message),
        (code, details) => client.end(code, details),
      );
    return { leave: () => end.leave(), receive };
  }

  #openWatch(path: string, token: string | undefined, client: ClientEnd): ServerEnd | undefined {
    // What the server has said, and was not passed on.
    const late: WatchResponse[] = [];
    // All that is said goes this way, in its order: a client knows its watches by that.
    const data = (message: unknown): void => {
      if (!this.lags) {
        client.data(message);
        return;
      }
      late.push(message as WatchResponse);
      if (late.length > 1) return;
      this.#say(() => {
        for (const joined of joinBatches(late.splice(0))) client.data(joined);
      });
    };
    const end = this.#server.open(path, {
      data,
      end: (code, details) => client.end(code, details),
    });
    if (end === undefined) return undefined;
    const receive = (message: unknown): void => {
      const { gate } = this.#server;
      const isRefused = gate.refusesWatches || gate.refusal(token) !== undefined;
      if (!isRefused || (message as WatchRequest).createRequest == null) end.receive(message);
      else
        data(
          carrierOf(path).response({
            cancelReason: 'rpc error: code = PermissionDenied desc = etcdserver: permission denied',
            canceled: true,
            created: true,
            header: this.#server.member.headers.at(),
            watchId: -1n,
          }),
        );
    };
    return { leave: () => end.leave(), receive };
  }

  /** A serializable read: of what it has. */
  #readHere(request: RangeRequest): Answer {
    const last = this.#lastRevision;
    const { path } = services.KV.Range;
    if (last === undefined) return this.#server.answer(path, request);
    const { compactedRevision } = this.#server.member.store;
    // It has not compacted what the others have; what is gone cannot be shown any more.
    const revision = compactedRevision > last ? compactedRevision : last;
    const at = request.revision === 0n ? revision : request.revision;
    const answer = this.#server.answer(path, { ...request, revision: at });
    if (!('reply' in answer)) return answer;
    const header = this.#server.member.headers.at(revision);
    return { reply: carrierOf(path).response({ ...(answer.reply as RangeResponse), header }) };
  }

  #say(say: () => void): void {
    if (this.lags) this.#late.push(say);
    else say();
  }
}

/** What a call needs a leader for; undefined: nothing. */
function needOf({ path, request }: Arrived): Need | undefined {
  const { Cluster, KV, Lease } = services;
  if (path === KV.Range.path) return (request as RangeRequest).serializable ? undefined : 'read';
  if (path === Lease.LeaseTimeToLive.path || path === Lease.LeaseLeases.path) return 'read';
  if (path === Cluster.MemberList.path || path.includes('.Maintenance/')) return undefined;
  return 'write';
}
