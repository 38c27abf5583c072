import type { Client, KeyValue, Watcher } from 'conclave';

import { until } from '../support/until.js';

/** One life of a key: from the revision that created it to the one that deleted it. */
export interface KeyLife {
  readonly key: string;
  readonly createRevision: bigint;
  /** Undefined: it is there still. */
  deleteRevision: bigint | undefined;
  /** Every version, in order. */
  readonly versions: KeyValue[];
}

/** All that happened below a prefix, as etcd tells it: what a run's claims are checked against. */
export class History {
  readonly lives: KeyLife[] = [];
  /** At which anything changed, in order. */
  readonly revisions: bigint[] = [];
  readonly #alive = new Map<string, KeyLife>();
  readonly #watcher: Watcher;
  readonly #reading: Promise<void>;

  private constructor(watcher: Watcher) {
    this.#watcher = watcher;
    this.#reading = this.#read();
    // Of a run that failed nobody asks.
    this.#reading.catch(() => undefined);
  }

  /** Follows what happens below `prefix` from now on. */
  static async follow(client: Client, prefix: string): Promise<History> {
    const { revision } = await client.kv.range('history', { countOnly: true });
    return new History(client.watch({ prefix }, { startRevision: revision + 1n }));
  }

  /** Reads up to the present, and stops. */
  async complete(client: Client, prefix: string): Promise<void> {
    // A last change of our own is the end of the story.
    const { revision } = await client.kv.put(`${prefix}the end`, '');
    await client.kv.delete(`${prefix}the end`);
    await until(() => (this.revisions.at(-1) ?? 0n) >= revision, { what: 'the history is complete' });
    await this.#watcher.return();
    await this.#reading;
    this.lives.splice(0, this.lives.length, ...this.lives.filter((life) => life.key !== `${prefix}the end`));
  }

  /** The life that a key had at a revision. */
  at(key: string, revision: bigint): KeyLife | undefined {
    return this.lives.find((life) => life.key === key && wasAlive(life, revision));
  }

  async #read(): Promise<void> {
    for await (const { events } of this.#watcher) {
      for (const { type, kv } of events) {
        const life = this.#alive.get(kv.key);
        if (type === 'delete') {
          if (life !== undefined) life.deleteRevision = kv.modRevision;
          this.#alive.delete(kv.key);
        } else if (life === undefined) {
          const born: KeyLife = {
            createRevision: kv.createRevision,
            deleteRevision: undefined,
            key: kv.key,
            versions: [kv],
          };
          this.#alive.set(kv.key, born);
          this.lives.push(born);
        } else {
          life.versions.push(kv);
        }
        if (this.revisions.at(-1) !== kv.modRevision) this.revisions.push(kv.modRevision);
      }
    }
  }
}

/** Whether the key was there as of the revision. */
export function wasAlive(life: KeyLife, revision: bigint): boolean {
  return (
    life.createRevision <= revision && (life.deleteRevision === undefined || life.deleteRevision > revision)
  );
}

/** What the key held as of the revision. */
export function valueAt(life: KeyLife, revision: bigint): KeyValue | undefined {
  return life.versions.findLast((kv) => kv.modRevision <= revision);
}
