/** Whether the members of the simulated world have a leader, and what becomes of what is asked while they have none. */
import { status } from '@grpc/grpc-js';

import type { Random } from './random.js';
import type { Timeline } from './timeline.js';

/** What a request needs a leader for: to be decided, to be read as of now, or to be forwarded to it. */
export type Need = 'write' | 'read' | 'renewal';

interface Waiting {
  readonly need: Need;
  readonly work: () => void;
  readonly fail: (code: status, details: string) => void;
  /** It has been told that it took too long. It may be decided all the same. */
  isTold: boolean;
}

/** Of etcd: 5 s, and two election timeouts. */
const PATIENCE_MS = 7000;

export class Quorum {
  readonly #timeline: Timeline;
  readonly #random: Random;
  /** Leases begin anew, their clock goes on. */
  readonly #elected: () => void;
  readonly #lost: () => void;
  #hasLeader = true;
  #waiting: Waiting[] = [];

  constructor(
    timeline: Timeline,
    random: Random,
    on: { readonly elected: () => void; readonly lost: () => void },
  ) {
    this.#timeline = timeline;
    this.#random = random;
    this.#elected = on.elected;
    this.#lost = on.lost;
  }

  get hasLeader(): boolean {
    return this.#hasLeader;
  }

  /** There is no leader any more: nothing is decided, and no lease ends. */
  lose(): void {
    if (!this.#hasLeader) return;
    this.#hasLeader = false;
    this.#lost();
  }

  /**
   * There is a leader, the old one or another: leases have their full time again. Of the writes that wait some are decided
   * now, those too whose clients were told that they took too long; the others never are. Reads are answered, or refused.
   */
  gain(): void {
    if (this.#hasLeader) return;
    this.#hasLeader = true;
    this.#elected();
    for (const one of this.#waiting.splice(0)) {
      if (one.need === 'renewal' || this.#random.chance(0.5)) one.work();
      else if (one.need === 'read') this.#tell(one, 'etcdserver: leader changed');
      // It goes on waiting for its time to be over.
      else this.#expire(one);
    }
  }

  /** Does the work if there is a leader; else later, or never. Then, or in between, it may fail. */
  ask(need: Need, work: () => void, fail: Waiting['fail']): void {
    if (this.#hasLeader) {
      work();
      return;
    }
    const one: Waiting = {
      fail,
      isTold: false,
      need,
      work: () => {
        if (!one.isTold || need === 'write') work();
      },
    };
    this.#waiting.push(one);
    this.#expire(one);
  }

  #expire(one: Waiting): void {
    const details = one.need === 'renewal' ? 'etcdserver: no leader' : 'etcdserver: request timed out';
    this.#timeline.after(PATIENCE_MS, () => this.#tell(one, details));
  }

  #tell(one: Waiting, details: string): void {
    if (one.isTold) return;
    one.isTold = true;
    one.fail(status.UNAVAILABLE, details);
  }
}
