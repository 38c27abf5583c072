/**
 * The place of one session in the line of one name, with the line of this process's own tasks in front of it: tasks that
 * share a session share its one key (`name/<lease>`), so only one of them at a time may use it.
 */
import { leaseHex } from '../etcd/lease/lease.js';
import type { Session } from '../session/session.js';
import { gaveUpLocally } from './gave-up.js';
import { lineOf } from './lines.js';
import type { Ticket } from './ticket.js';
import { type EndTurn, Turns } from './turns.js';

/** So many times in a row ownership may pass between tasks of one process, whatever the line looks like. */
const MOST_HANDOVERS = 100;

export class Place {
  readonly session: Session;
  readonly name: string;
  /** The key's last part: the lease, as Go's clients write it. */
  readonly suffix: string;
  readonly #turns = new Turns();
  #kept: Ticket | undefined;
  #handovers = 0;
  /** While a task waits here, the line is followed, so that who releases knows who waits elsewhere. */
  #stopFollowing: (() => void) | undefined;

  constructor(session: Session, name: string) {
    this.session = session;
    this.name = name;
    this.suffix = leaseHex(session.leaseId);
  }

  /** Whether a task of this process is using the place. */
  get busy(): boolean {
    return this.#turns.taken;
  }

  /**
   * Waits for our turn among the tasks of this process. Resolves with how to end it; rejects with the signal's reason, and
   * nothing of the wait is left then.
   */
  enter(signal: AbortSignal): Promise<EndTurn> {
    if (!this.busy) return this.#turns.take(signal).then((endTurn) => () => this.#end(endTurn));
    this.#stopFollowing ??= lineOf(this.session.client, this.name).use();
    return this.#turns.take(signal).then(
      (endTurn) => {
        this.#waitsNoMore();
        return () => this.#end(endTurn);
      },
      (error: unknown) => {
        this.#waitsNoMore();
        throw gaveUpLocally(error);
      },
    );
  }

  /** The ticket that the task before us left for us, once. */
  takeKept(): Ticket | undefined {
    const kept = this.#kept;
    this.#kept = undefined;
    return kept;
  }

  /**
   * Keeps the ticket for the next task of this process, if there is one and nobody waits elsewhere; says whether it did.
   * Others are seen on the line; while that is not known exactly, the ticket is given back.
   */
  keep(ticket: Ticket): boolean {
    const line = ticket.lineIfUsed;
    const othersWait = line?.live !== true || line.keyAfter(ticket.key) !== undefined;
    if (this.#turns.waiting === 0 || othersWait || this.#handovers >= MOST_HANDOVERS || !this.session.alive) {
      this.#handovers = 0;
      return false;
    }
    this.#handovers += 1;
    this.#kept = ticket;
    return true;
  }

  #waitsNoMore(): void {
    if (this.#turns.waiting > 0) return;
    this.#stopFollowing?.();
    this.#stopFollowing = undefined;
  }

  /** Ends a turn. Whoever can do so keeps this place, with its turn taken, from being collected. */
  #end(endTurn: EndTurn): void {
    endTurn();
  }
}

/** By session and name. A place that nobody uses or waits in is as good as a new one, and so may be collected. */
const places = new WeakMap<Session, Map<string, WeakRef<Place>>>();
const collected = new FinalizationRegistry<{ named: Map<string, WeakRef<Place>>; name: string }>(
  ({ named, name }) => {
    if (named.get(name)?.deref() === undefined) named.delete(name);
  },
);

/** The place of `session` in the line of `name`. */
export function placeOf(session: Session, name: string): Place {
  const named = places.get(session) ?? new Map<string, WeakRef<Place>>();
  places.set(session, named);
  let place = named.get(name)?.deref();
  if (place === undefined) {
    place = new Place(session, name);
    named.set(name, new WeakRef(place));
    collected.register(place, { name, named });
  }
  return place;
}
