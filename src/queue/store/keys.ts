/** The names of a queue's keys, and what can be read out of them. job-queue.ts says what each is for. */
import type { KeyRange } from '../../etcd/kv/key-range.js';
import { keySpace } from '../../util/key-space.js';

/** Where a job stands: by priority, then by its number in that priority's line. `id` tells it from all others. */
export interface Place {
  readonly priority: number;
  /** Its position among those of its priority, see numbering.ts. Not unique, and with gaps. */
  readonly number: number;
  readonly id: string;
}

/** The states a job can be in. */
export type JobState = 'waiting' | 'delayed' | 'active' | 'dead' | 'done';

const HIGHEST_PRIORITY = 32_767;
const NUMBER_DIGITS = 12;

function digits(value: number, count: number): string {
  return value.toString(16).padStart(count, '0');
}

/** A greater priority sorts first. */
function priorityCode(priority: number): string {
  return digits(HIGHEST_PRIORITY - priority, 4);
}

function placeText({ priority, number, id }: Place): string {
  return `${priorityCode(priority)}/${digits(number, NUMBER_DIGITS)}/${id}`;
}

/** The names of a queue's keys; job-queue.ts says what they are for. */
export class QueueKeys {
  /** Of every key of the queue. */
  readonly root: string;
  /** Of what workers follow: few keys, and one change for a batch of jobs. */
  readonly control: string;
  /** Of the keys that say what was appended to each priority. */
  readonly sequences: string;
  /** Of what an earlier layout counted in, see `tail`. */
  readonly tails: string;
  readonly workers: string;
  readonly back: string;
  readonly due: string;
  readonly paused: string;
  readonly scheduler: string;
  readonly bodies: string;
  /** Of the entries of every job that is not done and not dead. */
  readonly todo: string;
  readonly lanes: string;

  constructor(name: string) {
    this.root = keySpace(name, '.queue', "a queue's name");
    this.control = `${this.root}control/`;
    this.sequences = `${this.control}tail-sequence/`;
    this.tails = `${this.control}tail/`;
    this.workers = `${this.control}worker/`;
    this.back = `${this.control}back`;
    this.due = `${this.control}due`;
    this.paused = `${this.control}paused`;
    this.scheduler = `${this.control}scheduler`;
    this.bodies = `${this.root}body/`;
    this.todo = `${this.root}todo/`;
    this.lanes = `${this.root}lane/`;
  }

  /** The job's data. It is there as long as the job is, in whatever state. */
  body(id: string): string {
    return this.bodies + id;
  }

  /** Written by every transaction that appends to a priority; its version counts them. */
  sequence(priority: number): string {
    return this.sequences + priorityCode(priority);
  }

  /** How many numbers of a priority an earlier layout has given out. Nothing writes it any more; ours come behind. */
  tail(priority: number): string {
    return this.tails + priorityCode(priority);
  }

  worker(member: string): string {
    return this.workers + member;
  }

  lane(member: string, what: 'push' | 'work' | 'dead' | 'schedule'): string {
    return `${this.lanes}${member}/${what}`;
  }

  waiting(place: Place): string {
    return this.prefixOf('waiting') + placeText(place);
  }

  /** The waiting jobs from one priority and number on, before another. */
  waitingBetween(from: Omit<Place, 'id'>, to: Omit<Place, 'id'>): KeyRange {
    const [start, end] = [from, to].map((place) => this.waiting({ ...place, id: '' }));
    return { end: end ?? '', start: start ?? '' };
  }

  delayed(dueMs: number, place: Place): string {
    return `${this.prefixOf('delayed')}${digits(dueMs, NUMBER_DIGITS)}/${placeText(place)}`;
  }

  /** The delayed jobs that are due at `fromMs` or later, but before `toMs` (or ever). */
  delayedBetween(fromMs: number, toMs: number): { readonly start: string; readonly end: string } {
    const prefix = this.prefixOf('delayed');
    const start = prefix + digits(fromMs, NUMBER_DIGITS);
    // '0' is the character after '/', so this is where the keys of the prefix end.
    const end = toMs === Infinity ? `${prefix.slice(0, -1)}0` : prefix + digits(toMs, NUMBER_DIGITS);
    return { end, start };
  }

  active(member: string, place: Place): string {
    return this.activeOf(member) + placeText(place);
  }

  /** Of the jobs that one worker has. */
  activeOf(member: string): string {
    return `${this.prefixOf('active')}${member}/`;
  }

  dead(place: Place): string {
    return this.prefixOf('dead') + placeText(place);
  }

  /** Of a job that is done and kept until then. */
  done(untilMs: number, place: Place): string {
    return `${this.prefixOf('done')}${digits(untilMs, NUMBER_DIGITS)}/${placeText(place)}`;
  }

  /** The jobs that are done and are not to be kept any longer. */
  doneBefore(nowMs: number): { readonly start: string; readonly end: string } {
    const prefix = this.prefixOf('done');
    return { end: prefix + digits(nowMs, NUMBER_DIGITS), start: prefix };
  }

  /** Of the entries of all jobs in a state. */
  prefixOf(state: JobState): string {
    return state === 'dead' || state === 'done' ? `${this.root}${state}/` : `${this.todo}${state}/`;
  }

  /** Reads the priority out of the key of a sequence or of a tail. */
  priorityOf(key: string): number {
    return HIGHEST_PRIORITY - parseInt(key.slice(key.lastIndexOf('/') + 1), 16);
  }

  /** Reads an entry's key. Undefined when it is none of ours. */
  parse(key: string, state: JobState): ParsedEntry | undefined {
    const rest = key.slice(this.prefixOf(state).length);
    const match = ENTRY[state].exec(rest);
    if (match === null) return undefined;
    const [, lead = '', priority = '', number = '', id = ''] = match;
    return {
      lead,
      place: { id, number: parseInt(number, 16), priority: HIGHEST_PRIORITY - parseInt(priority, 16) },
    };
  }
}

/** What an entry's key says. */
export interface ParsedEntry {
  /** Of an active job: the worker that has it. Of a delayed one: when it is due, of one that is done: until when it is kept, in hex. */
  readonly lead: string;
  readonly place: Place;
}

const TIMED = /^([0-9a-f]{12})\/([0-9a-f]{4})\/([0-9a-f]{12})\/(.+)$/s;
const ENTRY: Readonly<Record<JobState, RegExp>> = {
  active: /^([^/]+)\/([0-9a-f]{4})\/([0-9a-f]{12})\/(.+)$/s,
  dead: /^()([0-9a-f]{4})\/([0-9a-f]{12})\/(.+)$/s,
  delayed: TIMED,
  done: TIMED,
  waiting: /^()([0-9a-f]{4})\/([0-9a-f]{12})\/(.+)$/s,
};
