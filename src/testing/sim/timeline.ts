import type { Timer } from '../../util/clock.js';

const EVENTS_EACH_TURN = 5000;

interface Entry {
  readonly atMs: number;
  /** Of two at the same time the first to be asked for comes first. */
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** Virtual time: what is to happen, in order. What an event sets off is done before the next. */
export class Timeline {
  #nowMs = 0;
  #order = 0;
  #events = 0;
  /** A binary heap, the next one first. */
  readonly #heap: Entry[] = [];

  /** Milliseconds since it began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many events there have been. */
  get events(): number {
    return this.#events;
  }

  at(atMs: number, run: () => void): Timer {
    const entry = { atMs: Math.max(atMs, this.#nowMs), cancelled: false, order: this.#order++, run };
    this.#push(entry);
    return {
      cancel: () => {
        entry.cancelled = true;
      },
    };
  }

  after(delayMs: number, run: () => void): Timer {
    return this.at(this.#nowMs + Math.max(0, delayMs), run);
  }

  /** Lets events happen until `untilMs` is over, or `done` says so. Rejects with what an event throws. */
  async run(untilMs: number, done: () => boolean = () => false): Promise<void> {
    await settle();
    while (!done()) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs);
        return;
      }
      this.#pop();
      if (next.cancelled) continue;
      this.#nowMs = next.atMs;
      this.#events += 1;
      next.run();
      await settle();
      if (this.#events % EVENTS_EACH_TURN === 0) await breathe();
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Entry;
      if (!isBefore(entry, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const least = right < heap.length && isBefore(heap[right] as Entry, heap[left] as Entry) ? right : left;
      if (!isBefore(heap[least] as Entry, last)) break;
      heap[at] = heap[least] as Entry;
      at = least;
    }
    heap[at] = last;
  }
}

function isBefore(one: Entry, other: Entry): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}

/** Lets promise callbacks run until none is left: Node looks for what is to be done next only then. */
function settle(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** A turn of the event loop, for what is outside the world, such as Ctrl-C. */
function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
