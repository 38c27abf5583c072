/**
 * Gives out the numbers of waiting jobs, and appends jobs with them. store/numbering.ts says what a number is.
 *
 * A version that was seen after somebody asked for a push numbers his jobs behind all that had been appended before. So
 * appending takes two requests: a look at the sequence, and a transaction, which others who append do not get refused. It is
 * refused only if the last one to leave the queue has removed the sequence since, which then begins anew.
 *
 * Who appends alone needs one request: it is numbered by the version that his last transaction made, and compares that; when
 * it is another by now the refusal brings it, and is the look.
 */
import { type Compare, compare } from '../../etcd/kv/compare.js';
import type { KeyValue } from '../../etcd/kv/key-value.js';
import type { OpResult } from '../../etcd/kv/kv.js';
import { type Op, op, type TxnSpec } from '../../etcd/kv/op.js';
import { untilAnswered } from '../../etcd/transport/until-answered.js';
import type { Session } from '../../session/session.js';
import type { Applied, Outcome } from '../store/fenced-writer.js';
import { knownControlWatch } from '../store/control-watch.js';
import type { QueueKeys } from '../store/keys.js';
import { type Appended, decodeTail, encodeAppended, firstNumber } from '../store/numbering.js';

/** A job that is to be appended to its priority. */
export interface Append {
  readonly priority: number;
  /** Whether it waits then, and is announced to the workers; a delayed job only gets a number. */
  readonly waits: boolean;
  /** The transaction within the transaction that stores it with this number. */
  readonly at: (number: number) => TxnSpec;
}

/** A sequence as it was seen. */
interface Seen {
  readonly base: number;
  readonly version: number;
  /** The revision at which its key was made; 0: there was none. */
  readonly madeAt: bigint;
  /** Whether nobody else appended between our last two looks, so that it is likely to be the same still. */
  readonly quiet: boolean;
}

/** What appends jobs, and the numbers that those of each priority get which wait then. */
interface Steps {
  readonly steps: readonly Op[];
  readonly appended: ReadonlyMap<number, Appended>;
}

/** How many sequences are remembered. */
const MOST_SEEN = 1000;

export class Sequences {
  readonly #session: Session;
  readonly #layout: QueueKeys;
  readonly #seen = new Map<number, Seen>();

  constructor(session: Session, layout: QueueKeys) {
    this.#session = session;
    this.#layout = layout;
  }

  /**
   * Appends the jobs, in this order, and does `more`, in one transaction, which `run` does once. Those that one object
   * appends one after the other are in this order; others' come before when they were appended before the call. The
   * responses are those of each job, then of `more`.
   */
  async append(
    jobs: readonly Append[],
    run: (spec: TxnSpec) => Promise<Outcome>,
    more: readonly Op[] = [],
  ): Promise<Applied> {
    const priorities = [...new Set(jobs.map(({ priority }) => priority))];
    let numbers: ReadonlyMap<number, Appended> = new Map();
    const attempt = (conditions: readonly Compare[]): Promise<Outcome> => {
      const look = priorities.map((each) => op.get(this.#layout.sequence(each), { keysOnly: true }));
      const { appended, steps } = this.#steps(jobs, priorities);
      numbers = appended;
      return run({ else: look, if: conditions, then: [...steps, ...more] });
    };
    if (priorities.every((each) => this.#seen.get(each)?.quiet === true)) {
      const outcome = await attempt(priorities.map((each) => this.#isSame(each)));
      if (outcome.is !== 'refused') return this.#applied(priorities, numbers, outcome);
      for (const [at, priority] of priorities.entries())
        this.#looked(priority, foundBy(outcome.responses[at]), this.#known(priority));
    } else {
      await this.#read(priorities);
    }
    for (;;) {
      const outcome = await attempt(priorities.flatMap((each) => this.#isKept(each)));
      if (outcome.is !== 'refused') return this.#applied(priorities, numbers, outcome);
      // The queue has just been empty and left by all, and numbers begin anew.
      for (const each of priorities) this.#seen.delete(each);
      await this.#read(priorities);
    }
  }

  /** Holds while nobody has appended to this priority since it was seen. */
  #isSame(priority: number): Compare {
    return compare.version(this.#layout.sequence(priority), '=', BigInt(this.#known(priority).version));
  }

  /** Holds unless the last one to leave the queue has removed the sequence since it was seen. */
  #isKept(priority: number): Compare[] {
    const { madeAt } = this.#known(priority);
    return madeAt === 0n ? [] : [compare.createRevision(this.#layout.sequence(priority), '=', madeAt)];
  }

  /** Looks at the sequences, and at what the earlier layout has left of those that are new to us. */
  async #read(priorities: readonly number[]): Promise<void> {
    const { client, signal } = this.#session;
    if (this.#seen.size > MOST_SEEN) this.#seen.clear();
    const get = (key: string, keysOnly: boolean): Promise<KeyValue | undefined> =>
      untilAnswered(client.clock, signal, () => client.kv.get(key, { keysOnly, signal }));
    await Promise.all(
      priorities.map(async (priority) => {
        const seen = this.#seen.get(priority);
        const [tail, found] = await Promise.all([
          seen === undefined ? get(this.#layout.tail(priority), false) : undefined,
          get(this.#layout.sequence(priority), true),
        ]);
        this.#looked(
          priority,
          found,
          seen ?? { base: decodeTail(tail), madeAt: 0n, quiet: false, version: -1 },
        );
      }),
    );
  }

  #looked(priority: number, found: KeyValue | undefined, { base, version: before }: Seen): void {
    const version = Number(found?.version ?? 0);
    const madeAt = found?.createRevision ?? 0n;
    this.#seen.set(priority, { base, madeAt, quiet: version === before, version });
  }

  /** One put for each priority, then one transaction for each job. */
  #steps(jobs: readonly Append[], priorities: readonly number[]): Steps {
    const next = new Map<number, number>();
    const appended = new Map<number, Appended>();
    const steps: Op[] = [];
    for (const { priority, at, waits } of jobs) {
      const { base, version } = this.#known(priority);
      const number = next.get(priority) ?? firstNumber(base, version);
      next.set(priority, number + 1);
      if (waits) appended.set(priority, { first: appended.get(priority)?.first ?? number, last: number });
      steps.push(op.txn(at(number)));
    }
    const puts = priorities.map((each) =>
      op.put(this.#layout.sequence(each), encodeAppended(appended.get(each)), { prevKv: true }),
    );
    return { appended, steps: [...puts, ...steps] };
  }

  #applied(priorities: readonly number[], numbers: ReadonlyMap<number, Appended>, outcome: Applied): Applied {
    const control = knownControlWatch(this.#session.client, this.#layout);
    for (const [priority, appended] of numbers) control?.appended(priority, appended, outcome.revision);
    for (const [at, priority] of priorities.entries()) {
      const seen = this.#known(priority);
      const answer = outcome.is === 'applied' ? outcome.responses[at] : undefined;
      const previous = answer?.type === 'put' ? answer.previous : undefined;
      const madeAt = previous?.createRevision ?? outcome.revision;
      const version = answer?.type === 'put' ? Number(previous?.version ?? 0) + 1 : -1;
      this.#seen.set(priority, { ...seen, madeAt, quiet: version === seen.version + 1, version });
    }
    if (outcome.is !== 'applied') return outcome;
    return { ...outcome, responses: outcome.responses.slice(priorities.length) };
  }

  #known(priority: number): Seen {
    const seen = this.#seen.get(priority);
    if (seen === undefined) throw new Error(`nothing is known of priority ${String(priority)}`);
    return seen;
  }
}

function foundBy(response: OpResult | undefined): KeyValue | undefined {
  return response?.type === 'get' ? response.kvs[0] : undefined;
}
