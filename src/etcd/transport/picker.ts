import { onAbort, OVER, sleep } from '../../util/abort.js';
import { tell } from '../../util/channels.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import type { Endpoint } from './endpoint.js';
import type { Members } from './roster.js';
import { chance } from '../../util/chance.js';

/** How long a member that kept silent, or failed, may be passed over for one that is still connecting. */
const FALLBACK_MS = 300;
/** Longer than anybody waits: the longest that a timer can be set to, 24 days. */
const STAY_MS = 2 ** 31 - 1;

/** After so long, and up to three times that, a client that had to leave its member looks whether it serves again. */
const LOOK_MS = 1000;
const LONGEST_LOOK_MS = 30_000;
/** Who has to leave again so soon after coming back looks half as often from then on. */
const SETTLED_MS = 60_000;

/**
 * Chooses the member to ask. It stays with one while that answers, so that a client needs one connection; when it does
 * not, all are tried at once and the first to come up is the next choice. Each client has a member at which it is at home,
 * by chance: it goes back when that serves again, so that a fleet is spread over those that return, too.
 */
export class Picker {
  readonly #members: Members;
  readonly #clock: Clock;
  readonly #serves: (endpoint: Endpoint) => Promise<boolean>;
  #home: Endpoint | undefined;
  #preferred: Endpoint | undefined;
  /** When to look for our member, if we are not there. */
  #lookAt = 0;
  #lookMs = LOOK_MS;
  #cameHomeAt = -Infinity;

  /** `serves` asks a member whether it is fit to be asked. */
  constructor(members: Members, clock: Clock, serves: (endpoint: Endpoint) => Promise<boolean>) {
    this.#members = members;
    this.#clock = clock;
    this.#serves = serves;
    this.#preferred = this.#home = homeOf(members.all);
    members.onChange(() => this.#settle());
  }

  /** The member that the client stays with. */
  get preferred(): Endpoint | undefined {
    return this.#preferred;
  }

  /** The member to ask when no waiting is needed. */
  get readyNow(): Endpoint | undefined {
    this.#lookHome();
    const preferred = this.#preferred;
    if (preferred !== undefined && preferred.ready && !preferred.suspect) return preferred;
    const next = this.#inOrder().find((endpoint) => endpoint.ready && !endpoint.suspect);
    if (next !== undefined) this.#choose(next);
    return next;
  }

  /**
   * The first member that comes up. When every one fails, one of them all the same: a call on it fails at once and says
   * why. When `signal` aborts, the preferred one.
   */
  async pick(signal: AbortSignal, avoid?: Endpoint): Promise<Endpoint> {
    const quick = this.readyNow;
    if (quick !== undefined && quick !== avoid) return quick;
    const chosen = await this.#firstUp(signal, avoid);
    if (chosen === undefined) return this.pick(signal, avoid);
    this.#choose(chosen);
    return chosen;
  }

  /** As `pick`, but undefined when none has come up within `limitMs`, or one of the signals aborts before. */
  async pickWithin(
    limitMs: number,
    signals: readonly (AbortSignal | undefined)[],
  ): Promise<Endpoint | undefined> {
    const stop = new AbortController();
    const timer = this.#clock.setTimer(limitMs, () => stop.abort(OVER));
    const stops = signals.map((signal) => onAbort(signal, () => stop.abort(OVER)));
    try {
      const endpoint = await this.pick(stop.signal);
      return stop.signal.aborted ? undefined : endpoint;
    } finally {
      timer.cancel();
      for (const each of stops) each();
    }
  }

  /** A member other than `than` that comes up; undefined when none does before `signal` aborts. The client stays where it is. */
  async another(than: Endpoint, signal: AbortSignal): Promise<Endpoint | undefined> {
    const ready = this.#inOrder().find(
      (endpoint) => endpoint !== than && endpoint.ready && !endpoint.suspect,
    );
    const found = ready ?? (await this.#firstUp(signal, than));
    if (found === undefined) return this.another(than, signal);
    return found === than || signal.aborted ? undefined : found;
  }

  /** Stops preferring `endpoint`: a call on it failed. */
  avoid(endpoint: Endpoint): void {
    if (this.#preferred !== endpoint) return;
    this.#choose(this.#inOrder()[1] ?? endpoint);
  }

  /** Whether our member serves again, if it is time to look; in the background. */
  #lookHome(): void {
    const now = this.#clock.now();
    const home = this.#home;
    if (this.#preferred === home || now < this.#lookAt || home === undefined || home.suspect) return;
    this.#lookAgainLater(now);
    void this.#serves(home).then((serves) => {
      if (!serves || home !== this.#home || this.#preferred === home || home.suspect) return;
      this.#cameHomeAt = this.#clock.now();
      this.#choose(home);
    });
  }

  #lookAgainLater(now: number): void {
    this.#lookAt = now + this.#lookMs * (1 + 2 * chance.fraction());
  }

  /** The members are others: one that is none of them is left at once, a new one that is home soon. */
  #settle(): void {
    const { all } = this.#members;
    this.#home = homeOf(all);
    this.#lookMs = LOOK_MS;
    this.#lookAgainLater(this.#clock.now());
    if (this.#preferred === undefined || all.includes(this.#preferred)) return;
    const ready = all.find((endpoint) => endpoint.ready && !endpoint.suspect);
    const to = ready ?? this.#home;
    if (to !== undefined) this.#choose(to);
  }

  #choose(to: Endpoint): void {
    const from = this.#preferred;
    if (from === this.#home && to !== this.#home) {
      const now = this.#clock.now();
      const isSettled = now - this.#cameHomeAt > SETTLED_MS;
      this.#lookMs = isSettled ? LOOK_MS : Math.min(LONGEST_LOOK_MS, this.#lookMs * 2);
      this.#lookAgainLater(now);
    }
    this.#preferred = to;
    if (from !== to) tell('endpoint', () => ({ from: from?.url, to: to.url }));
  }

  /** Undefined when the members are others before one has come up. */
  async #firstUp(signal: AbortSignal, avoid: Endpoint | undefined): Promise<Endpoint | undefined> {
    const order = this.#inOrder();
    const [first] = order;
    if (first === undefined) throw new TypeError('a client needs at least one endpoint');
    const trusted = order.filter((endpoint) => !endpoint.suspect && endpoint !== avoid);
    const wanted = trusted.length === 0 ? order : trusted;
    const others = order.filter((endpoint) => !wanted.includes(endpoint));
    const up = new Deferred<Endpoint | undefined>();
    const failed = new Set<Endpoint>();
    const stop = new AbortController();
    const stopListening = onAbort(signal, () => {
      stop.abort(OVER);
      up.resolve(first);
    });
    const stopFollowing = this.#members.onChange(() => up.resolve(undefined));
    const follow = async (endpoint: Endpoint): Promise<void> => {
      while ((await endpoint.connect(stop.signal)) !== 'ready') {
        failed.add(endpoint);
        if (failed.size === order.length) break;
        tryOthers();
        // It may come back while another neither comes up nor fails.
        await sleep(this.#clock, FALLBACK_MS, stop.signal);
      }
      up.resolve(endpoint);
    };
    const tryAll = (endpoints: readonly Endpoint[]): void => {
      for (const endpoint of endpoints) void follow(endpoint).catch(() => undefined); // Stopped: another one is up.
    };
    const tryOthers = (): void => tryAll(others.splice(0));
    const fallback = this.#clock.setTimer(FALLBACK_MS, tryOthers);
    // gRPC's own timers do not keep a process alive, which must not end while somebody waits.
    const staying = this.#clock.setTimer(STAY_MS, () => undefined);
    tryAll(wanted);
    try {
      return await up.promise;
    } finally {
      stop.abort(OVER);
      stopListening();
      stopFollowing();
      fallback.cancel();
      staying.cancel();
    }
  }

  /** All members, from the preferred one on. */
  #inOrder(): Endpoint[] {
    const { all } = this.#members;
    const at = this.#preferred === undefined ? 0 : Math.max(0, all.indexOf(this.#preferred));
    return [...all.slice(at), ...all.slice(0, at)];
  }
}

/** Where a client is at home: with each member as likely as with any other. */
function homeOf(members: readonly Endpoint[]): Endpoint | undefined {
  return members.reduce<Endpoint | undefined>(
    (best, each) => (best === undefined || each.lot > best.lot ? each : best),
    undefined,
  );
}
