/**
 * Whether registers are linearizable: whether each call can have been done in one moment between its call and its return.
 *
 * The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memoisation ("Testing
 * for Linearizability", 2017), key by key, since registers are linearizable together if each of them is (Herlihy and Wing).
 */
import { checkOptions } from '../../util/validate.js';
import type { HistoryRecord, Violation } from './history.js';
import { after, callsByKey, type RegisterCall, type RegisterState } from './register-calls.js';

/** Options of `checkLinearizability`. */
export interface LinearizabilityOptions {
  /** What is there before the history begins, by key. @default nothing */
  readonly initial?: Readonly<Record<string, string>>;
  /** How many states of one key are looked at before it is called `undecided`. @default 1_000_000 */
  readonly maxStates?: number;
}

/**
 * Says which keys have no order of their calls that explains what the calls told. Rules: `linearizable`, and `undecided`
 * for a key whose search was given up at `maxStates`.
 */
export function checkLinearizability(
  history: readonly HistoryRecord[],
  options: LinearizabilityOptions = {},
): Violation[] {
  checkOptions(options, ['initial', 'maxStates'], 'checkLinearizability');
  const { initial = {}, maxStates = 1_000_000 } = options;
  return [...callsByKey(history)].flatMap(([key, calls]) => {
    const value = Object.hasOwn(initial, key) ? initial[key] : undefined;
    const state = { value, revision: value === undefined ? 0n : undefined, floor: 0n, isUnseen: false };
    const verdict = new Search(calls, state, maxStates).run();
    if (verdict === 'found') return [];
    if (verdict === 'undecided')
      return [{ rule: 'undecided', message: `${key}: ${maxStates} states were not enough`, at: [] }];
    const [stuck] = verdict;
    const shown = stuck === undefined ? '' : `: no order has a place for this ${stuck.operation.is}`;
    const at = verdict.flatMap(({ records }) => records);
    return [{ rule: 'linearizable', message: `${key} is not linearizable${shown}`, at }];
  });
}

/** One step of the search: which calls could come next, which of them is being tried, and what it started from. */
interface Step {
  readonly state: RegisterState;
  readonly candidates: readonly number[];
  next: number;
  taken: number | undefined;
}

/** Depth first, with a stack of its own; no set of calls is looked at twice in the same state. */
class Search {
  /** Calls whose outcome is known all have to find a place. */
  readonly #known: readonly RegisterCall[];
  /** Those whose outcome is not known may; they are numbered after the known ones. */
  readonly #unknown: readonly RegisterCall[];
  /** For each unknown one, an earlier one that does the same: it is taken first, since it can be all that this one can. */
  readonly #twins: readonly (number | undefined)[];
  readonly #isTaken: boolean[];
  readonly #visited = new Set<string>();
  readonly #maxStates: number;
  readonly #initial: RegisterState;
  /** The first known call that is not taken. */
  #first = 0;
  #count = 0;

  constructor(calls: readonly RegisterCall[], initial: RegisterState, maxStates: number) {
    this.#known = calls.filter(({ outcome }) => outcome !== undefined);
    this.#unknown = calls.filter(({ outcome }) => outcome === undefined);
    const last = new Map<string, number>();
    this.#twins = this.#unknown.map(({ operation }, at) => {
      const same = JSON.stringify(operation);
      const twin = last.get(same);
      last.set(same, this.#known.length + at);
      return twin;
    });
    this.#isTaken = calls.map(() => false);
    this.#initial = initial;
    this.#maxStates = maxStates;
  }

  /** `found`, or the calls that had no place where the search came furthest; the first of them returned first. */
  run(): 'found' | 'undecided' | readonly RegisterCall[] {
    const stack: Step[] = [this.#step(this.#initial)];
    let furthest = -1;
    let stuck: readonly number[] = [];
    for (let step = stack.at(-1); step !== undefined; step = stack.at(-1)) {
      if (this.#count === this.#known.length) return 'found';
      if (step.taken !== undefined) this.#undo(step.taken);
      step.taken = undefined;
      if (this.#count > furthest) {
        furthest = this.#count;
        stuck = step.candidates;
      }
      const state = this.#take(step);
      if (state === undefined) stack.pop();
      else if (this.#visited.size > this.#maxStates) return 'undecided';
      else stack.push(this.#step(state));
    }
    return stuck
      .flatMap((index) => this.#known[index] ?? [])
      .sort((one, other) => one.returnedAt - other.returnedAt);
  }

  #step(state: RegisterState): Step {
    return { state, candidates: this.#candidates(), next: 0, taken: undefined };
  }

  /** Those that no call which is still to come had returned before; unknown ones last, since they need not come. */
  #candidates(): number[] {
    const found: number[] = [];
    let firstReturn = Infinity;
    for (let index = this.#first; index < this.#known.length; index++) {
      const call = this.#known[index];
      if (call === undefined || call.calledAt > firstReturn) break;
      if (this.#isTaken[index] === true) continue;
      found.push(index);
      firstReturn = Math.min(firstReturn, call.returnedAt);
    }
    for (const [at, call] of this.#unknown.entries()) {
      if (call.calledAt > firstReturn) break;
      const index = this.#known.length + at;
      const twin = this.#twins[at];
      const isNext = twin === undefined || this.#isTaken[twin] === true;
      if (isNext && this.#isTaken[index] !== true) found.push(index);
    }
    return found;
  }

  /** Takes the next candidate that leads to something new. */
  #take(step: Step): RegisterState | undefined {
    for (let index = step.candidates[step.next]; index !== undefined; index = step.candidates[step.next]) {
      step.next += 1;
      const call = this.#known[index] ?? this.#unknown[index - this.#known.length];
      const state = call === undefined ? undefined : after(step.state, call);
      if (state === undefined || !this.#leadsOn(index, state, step.candidates)) continue;
      this.#do(index);
      const name = this.#name(state);
      if (!this.#visited.has(name)) {
        this.#visited.add(name);
        step.taken = index;
        return state;
      }
      this.#undo(index);
    }
    return undefined;
  }

  /** One that need not come is of use only if a call that could be next depends on it. */
  #leadsOn(index: number, state: RegisterState, candidates: readonly number[]): boolean {
    if (index < this.#known.length) return true;
    return candidates.some((next) => {
      const call = this.#known[next] ?? this.#unknown[next - this.#known.length];
      return next !== index && call !== undefined && after(state, call) !== undefined;
    });
  }

  #do(index: number): void {
    this.#isTaken[index] = true;
    if (index >= this.#known.length) return;
    this.#count += 1;
    while (this.#first < this.#known.length && this.#isTaken[this.#first] === true) this.#first += 1;
  }

  #undo(index: number): void {
    this.#isTaken[index] = false;
    if (index >= this.#known.length) return;
    this.#count -= 1;
    this.#first = Math.min(this.#first, index);
  }

  /** The calls that are taken, as all before the first that is not and those few after it, and the state. */
  #name({ value, revision, floor, isUnseen }: RegisterState): string {
    const more: number[] = [];
    const end = this.#known[this.#first]?.returnedAt ?? -1;
    for (let index = this.#first; index < this.#known.length; index++) {
      if ((this.#known[index]?.calledAt ?? Infinity) > end) break;
      if (this.#isTaken[index] === true) more.push(index);
    }
    for (let index = this.#known.length; index < this.#isTaken.length; index++)
      if (this.#isTaken[index] === true) more.push(index);
    const shown = value === undefined ? '' : JSON.stringify(value);
    return `${this.#first}|${more.join(' ')}|${shown}|${String(revision)}|${String(floor)}|${String(isUnseen)}`;
  }
}
