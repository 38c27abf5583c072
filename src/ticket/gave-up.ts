/** What a wait in line says when its time is up: who holds, since when, and how many are ahead. From what is known here. */
import { ConclaveError, hasCode } from '../errors/conclave-error.js';
import type { KeyValue } from '../etcd/kv/key-value.js';
import { leaseHex } from '../etcd/lease/lease.js';
import type { Session } from '../session/session.js';
import type { Line } from './line.js';
import { cycleFrom, type Step } from './cycle.js';
import { type OwnerInfo, ownerOf } from './owner.js';

/** So many at most are counted: a thousand waits may end in one moment. */
const MOST_COUNTED = 100;

/** A ticket whose turn was waited for. */
interface Waiting {
  readonly session: Session;
  readonly key: string;
  readonly lineIfUsed: Line | undefined;
  /** Whether values in its line are the callers' own, which are nobody else's business. */
  readonly hasNote: boolean;
}

/**
 * The error of a wait, which says more if it is `TIMEOUT` and the line is known: from what is known here, and whether those
 * who hold wait for us, which takes a look at etcd's keys.
 */
export async function gaveUp(error: unknown, waiting: Waiting): Promise<unknown> {
  const { hasNote, key, lineIfUsed: line, session } = waiting;
  if (!hasCode(error, 'TIMEOUT') || line?.live !== true) return error;
  const ahead: KeyValue[] = [];
  for (const kv of line.keys) {
    if (kv.key === key || ahead.length === MOST_COUNTED) break;
    ahead.push(kv);
  }
  const [holder] = ahead;
  if (holder === undefined) return error;
  const others = ahead.length - 1;
  const more = `${String(others)}${ahead.length === MOST_COUNTED ? ' or more' : ''}`;
  const between = others === 0 ? 'nobody else' : `${more} other${others === 1 ? '' : 's'}`;
  const text = `${error.message}; held by ${whose(holder, session, hasNote)}, with ${between} ahead of us`;
  const cycle = await cycleFrom(session, holder);
  const round = cycle === undefined ? '' : `; ${toldCycle(cycle)}`;
  return new ConclaveError('TIMEOUT', `${text}${round}`, { cause: error, key: holder.key });
}

/** A deadlock, unless another task of one of them gives back what it has. */
function toldCycle(steps: readonly Step[]): string {
  const waits = steps.map(
    ({ lease, name, owner }) => `${whoIs(owner, leaseHex(lease))} waits for ${JSON.stringify(name)}, held by`,
  );
  return `a cycle: ${waits.join(' ')} this very session. Take what several need in one order, or with a MultiMutex`;
}

/** A wait for the turn among the tasks of one process, whose turn is at one key of theirs. */
export function gaveUpLocally(error: unknown): unknown {
  if (!hasCode(error, 'TIMEOUT')) return error;
  const text =
    `${error.message}; held, or waited for ahead of us, by another task on this very session: a task that waits for what ` +
    'it holds itself waits for ever';
  return new ConclaveError('TIMEOUT', text, { cause: error });
}

function whoIs({ host, label, pid }: OwnerInfo, lease: string): string {
  if (host === undefined) return `lease ${lease}`;
  return `process ${String(pid)} on ${host}${label === undefined ? '' : ` (${label})`}, lease ${lease}`;
}

function whose(kv: KeyValue, session: Session, hasNote: boolean): string {
  const owner: OwnerInfo = hasNote ? {} : ownerOf(kv);
  const { host, since } = owner;
  const lease = leaseHex(kv.leaseId ?? 0n);
  const isForeign = host === undefined && !hasNote;
  const who = `${whoIs(owner, lease)}${isForeign ? ' of another client' : ''}`;
  const asked = since === undefined ? '' : `, which asked for it at ${since}`;
  // A lock is handed on, with a higher token, by writing its key; an election's key also by who leads.
  const least = hasNote ? kv.createRevision : kv.modRevision;
  const text = `${who}${asked}, with fencing token ${String(least)} or a higher one`;
  return kv.leaseId === session.leaseId ? `this very session, ${text}` : text;
}
