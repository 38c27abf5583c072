import type { History, KeyLife } from './history.js';

/** The states a job can be in. */
export type State = 'waiting' | 'delayed' | 'active' | 'dead';

/** A job in one state, from when it came to be in it until it left it. */
export interface Stay {
  readonly state: State;
  /** The worker that has it, when it is active. */
  readonly member: string;
  readonly priority: string;
  readonly number: number;
  /** How often it had been claimed, and how often it may be. */
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly from: bigint;
  readonly to: bigint | undefined;
}

/** One life of a job, from the push to its removal: every state it went through, in order. */
export interface JobLife {
  readonly id: string;
  readonly from: bigint;
  readonly to: bigint | undefined;
  readonly stays: readonly Stay[];
}

const ENTRY =
  /^(?:todo\/)?(waiting|delayed|active|dead)\/(?:([^/]+)\/)?([0-9a-f]{4})\/([0-9a-f]{12})\/([^/]+)$/;

/** Reads the jobs of a queue from its keys; `problems` is told of keys that are not as they should be. */
export function readJobs(history: History, root: string, problems: string[]): JobLife[] {
  const entries = new Map<string, Stay[]>();
  const bodies: KeyLife[] = [];
  for (const life of history.lives.filter(({ key }) => key.startsWith(root))) {
    const rest = life.key.slice(root.length);
    if (rest.startsWith('body/')) bodies.push(life);
    const entry = ENTRY.exec(rest);
    if (entry === null) continue;
    const [, state, member = '', priority = '', number = '', id = ''] = entry;
    if (life.versions.length > 1) problems.push(`${life.key} was written twice`);
    const { attempts = 0, maxAttempts = 0 } = life.versions[0]?.json() as Partial<Stay>;
    const stays = entries.get(id) ?? [];
    entries.set(id, stays);
    stays.push({
      attempts,
      from: life.createRevision,
      maxAttempts,
      member,
      number: parseInt(number, 16),
      priority,
      state: state as State,
      to: life.deleteRevision,
    });
  }
  return bodies.map((body): JobLife => {
    const id = body.key.slice(`${root}body/`.length);
    const { createRevision: from, deleteRevision: to } = body;
    const stays = (entries.get(id) ?? []).filter(
      (stay) => stay.from >= from && (to === undefined || stay.from < to),
    );
    return { from, id, stays, to };
  });
}
