// What comes back for a call, against every kind of call: what the caller is told, and what is sent again. The cases are made
// from the tables of the source (fates.ts, etcd-words.ts, verdicts.ts), and played by a member that answers in these frames.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Client, compare, ConclaveError, type ErrorCode, hasCode, op } from 'conclave';
import { ETCD_ERRORS, type StatusName } from '#conclave/errors/codes.js';
import { etcdCode, PLAIN_WORDS } from '#conclave/errors/etcd-words.js';
import { type FateName, FATES, fateOfEtcd, provesNothingWritten } from '#conclave/errors/fates.js';
import { FOREIGN } from '#conclave/etcd/transport/verdicts.js';
import { systemClock } from '#conclave/util/clock.js';
import { countingClock, FakeMember, OK, STEP_MS, type WireAnswer } from './fake-member.js';

/** What comes back, and what it must be taken for. */
interface Case {
  readonly name: string;
  readonly wire: WireAnswer;
  readonly code: ErrorCode;
  readonly fate: FateName;
  /** Only where etcd has answered before, or has not. */
  readonly wasEtcd?: boolean;
}

const FOREIGN_WORDS = 'upstream went away';
const STATUSES = Object.keys(status).filter(
  (name) => Number.isNaN(Number(name)) && name !== 'OK',
) as StatusName[];
/** HTTP/2's error codes (RFC 9113, 7), and one that is none. */
const HTTP2_CODES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99];
const HTTP_STATUSES = [300, 400, 401, 403, 404, 418, 429, 500, 501, 502, 503, 504];
/** These gRPC takes for "unavailable". */
const HTTP_UNAVAILABLE = [429, 502, 503, 504];

/** A case of etcd's own words. */
function ofEtcd(words: string, statusName: StatusName): Case {
  const code = etcdCode(words) ?? assert.fail(`${words} are not etcd's words`);
  const fate = fateOfEtcd(code, { message: words, status: statusName });
  return {
    code,
    fate,
    name: `${statusName} "${words}"`,
    wire: { message: words, status: status[statusName] },
  };
}

/** The row of the table of foreign answers that is called so. */
function row(answer: string): { readonly code: ErrorCode; readonly fate: FateName } {
  return FOREIGN.find((each) => each.answer.startsWith(answer)) ?? assert.fail(`no row ${answer}`);
}

const ANYTHING_ELSE = row('anything else');
const grpc = (name: StatusName, message: string): WireAnswer => ({ message, status: status[name] });

const ETCD_CASES: readonly Case[] = [
  ...ETCD_ERRORS.map(({ message, status: name }) => ofEtcd(message, name)),
  ...PLAIN_WORDS.map((words) => ofEtcd(words, 'UNKNOWN')),
  ...STATUSES.map((name) => ofEtcd('etcdserver: some new error', name)),
  ofEtcd('etcdserver: request canceled', 'CANCELLED'),
  ofEtcd('etcdserver: request cancelled', 'UNKNOWN'),
  ofEtcd('raft proposal dropped', 'UNKNOWN'),
  ofEtcd('auth: some new error', 'UNKNOWN'),
];

const FOREIGN_CASES: readonly Case[] = [
  ...STATUSES.map((name): Case => {
    const refuses = fateOfEtcd('ETCD', { message: '', status: name }) === 'refused';
    const before = refuses ? row('a refusal in other words') : ANYTHING_ELSE;
    const taken = name === 'UNIMPLEMENTED' ? row('the server does not know the call') : before;
    return {
      ...taken,
      name: `${name} in other words, at first`,
      wasEtcd: false,
      wire: grpc(name, FOREIGN_WORDS),
    };
  }),
  ...STATUSES.map((name): Case => ({
    ...ANYTHING_ELSE,
    name: `${name} in other words`,
    wasEtcd: true,
    wire: grpc(name, FOREIGN_WORDS),
  })),
  // gRPC says these itself of what has not left: a server's words prove nothing.
  ...['No connection established', 'Stream refused by server', 'self signed certificate'].map(
    (words): Case => ({
      ...ANYTHING_ELSE,
      name: `the server's words "${words}"`,
      wire: grpc('UNAVAILABLE', words),
    }),
  ),
  ...HTTP2_CODES.map((rst): Case => {
    const taken = rst === 7 ? row('not sent: no connection') : ANYTHING_ELSE;
    return { ...taken, name: `RST_STREAM ${rst}`, wire: { rst } };
  }),
  ...HTTP2_CODES.map((goaway): Case => ({ ...ANYTHING_ELSE, name: `GOAWAY ${goaway}`, wire: { goaway } })),
  ...HTTP_STATUSES.map((http): Case => ({
    ...ANYTHING_ELSE,
    name: `HTTP ${http}`,
    wasEtcd: true,
    wire: { http },
  })),
  ...HTTP_STATUSES.map((http): Case => {
    const strange = row(http >= 400 && http < 500 ? 'HTTP 4xx' : 'another HTTP status');
    const taken = HTTP_UNAVAILABLE.includes(http) ? ANYTHING_ELSE : strange;
    return {
      ...taken,
      name: `HTTP ${http}, at first`,
      wasEtcd: false,
      wire: { body: '<html>no</html>', http },
    };
  }),
  { ...ANYTHING_ELSE, name: 'a cut connection', wire: { cut: true } },
  { ...ANYTHING_ELSE, name: 'headers without trailers', wire: { cutShort: true } },
  { ...ANYTHING_ELSE, name: 'a reply that is none', wire: { reply: Buffer.from('garbage!') } },
  {
    ...row('the request is larger'),
    name: 'a request that is too large',
    wire: grpc('RESOURCE_EXHAUSTED', 'grpc: received message larger than max (9 vs. 8)'),
  },
  {
    ...row('the reply is larger'),
    name: 'a reply that is too large',
    wire: grpc('RESOURCE_EXHAUSTED', 'grpc: trying to send message larger than max (9 vs. 8)'),
  },
  ...['unknown method Put for service etcdserverpb.KV', 'unknown service etcdserverpb.KV'].map(
    (words): Case => ({
      ...row('the server does not know the call'),
      name: words,
      wire: grpc('UNIMPLEMENTED', words),
    }),
  ),
];

type Kind = 'read' | 'guarded' | 'write';

/** Calls of each kind. */
const CALLS: readonly {
  readonly name: string;
  readonly kind: Kind;
  readonly send: (client: Client) => Promise<unknown>;
}[] = [
  { kind: 'read', name: 'get', send: (client) => client.kv.get('a') },
  { kind: 'read', name: 'range', send: (client) => client.kv.range({ prefix: 'a' }) },
  { kind: 'read', name: 'txn that reads', send: (client) => client.kv.txn({ then: [op.get('a')] }) },
  { kind: 'read', name: 'timeToLive', send: (client) => client.lease.timeToLive(5n) },
  { kind: 'read', name: 'hashKv', send: (client) => client.maintenance.hashKv() },
  { kind: 'guarded', name: 'idempotent txn', send: (client) => client.kv.txn(GUARDED, { idempotent: true }) },
  { kind: 'guarded', name: 'grant', send: (client) => client.lease.grant(5) },
  { kind: 'write', name: 'put', send: (client) => client.kv.put('a', 'x') },
  { kind: 'write', name: 'delete', send: (client) => client.kv.delete('a') },
  { kind: 'write', name: 'txn', send: (client) => client.kv.txn(GUARDED) },
  { kind: 'write', name: 'txn whose else writes', send: (client) => client.kv.txn({ else: GUARDED.then }) },
  {
    kind: 'write',
    name: 'txn whose nested else writes',
    send: (client) => client.kv.txn({ then: [op.txn({ else: GUARDED.then, then: [op.get('a')] })] }),
  },
  { kind: 'write', name: 'defragment', send: (client) => client.maintenance.defragment() },
  { kind: 'write', name: 'memberRemove', send: (client) => client.cluster.memberRemove(5n) },
  { kind: 'write', name: 'userAdd', send: (client) => client.auth.userAdd('a', 'b') },
];
const GUARDED = { if: [compare.missing('a')], then: [op.put('a', 'x')] };

/** Whether a call is made again after one such answer; and what it rejects with otherwise. */
function expected(fate: FateName, code: ErrorCode, kind: Kind): { again: boolean; code: ErrorCode } {
  const { ambiguous, transient } = FATES[fate];
  if (kind === 'read') return { again: transient, code };
  if (!ambiguous) return { again: transient, code };
  return { again: transient && kind === 'guarded', code: 'UNKNOWN_OUTCOME' };
}

/** What came of a call. */
interface Played {
  readonly error: unknown;
  readonly requests: number;
}

/** A member that answers as a case says, and its client. */
class Stage implements AsyncDisposable {
  readonly #case: Case;
  readonly #always: boolean;
  readonly #member: FakeMember;
  readonly #client: Client;
  #answers = 0;

  private constructor(each: Case, always: boolean, member: FakeMember) {
    this.#case = each;
    this.#always = always;
    this.#member = member;
    const clock = always ? countingClock(() => this.#answers) : systemClock;
    this.#client = new Client({ clock, endpoints: member.endpoint, timeoutMs: 4 * STEP_MS });
  }

  /** `always`: it never answers otherwise; else only a call's first request is answered so. */
  static async set(each: Case, { always }: { readonly always: boolean }): Promise<Stage> {
    const stage = new Stage(each, always, await FakeMember.start());
    if (each.wasEtcd !== false) await stage.#client.maintenance.status();
    return stage;
  }

  async play(send: (client: Client) => Promise<unknown>): Promise<Played> {
    const before = this.#member.requests();
    let first = true;
    this.#member.answer = () => {
      this.#answers += 1;
      const answer = first || this.#always ? this.#case.wire : OK;
      first = false;
      return answer;
    };
    const error = await send(this.#client).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    return { error, requests: this.#member.requests() - before };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close();
    await this.#member[Symbol.asyncDispose]();
  }
}

/** Plays a case against every kind of call. */
async function onStages(
  each: Case,
  options: { readonly always: boolean },
  check: (call: (typeof CALLS)[number], played: Played) => void,
): Promise<void> {
  // Where etcd has not answered before, it may not have answered the call before, either.
  const groups = each.wasEtcd === false ? CALLS.map((call) => [call]) : [CALLS];
  for (const calls of groups) {
    await using stage = await Stage.set(each, options);
    for (const call of calls) check(call, await stage.play(call.send));
  }
}

describe('what comes back for a call', { concurrency: 4 }, () => {
  for (const each of [...ETCD_CASES, ...FOREIGN_CASES]) {
    const { code, fate, name } = each;
    it(`${name}: ${fate}`, () =>
      onStages(each, { always: false }, ({ kind, name: call }, { error, requests }) => {
        const want = expected(fate, code, kind);
        const where = `${call}: ${String(error)}`;
        assert.equal(requests, want.again ? 2 : 1, where);
        if (want.again) {
          assert.equal(error, undefined, where);
          return;
        }
        assert.ok(error instanceof ConclaveError, where);
        assert.equal(error.code, want.code, where);
        if (kind === 'read') return;
        assert.equal(provesNothingWritten(error), !FATES[fate].ambiguous, where);
        if (want.code === 'UNKNOWN_OUTCOME') assert.ok(hasCode(error.cause, code), where);
      }));
  }

  it('rows of the table all have cases, but those that need no call to come through', () => {
    const played = new Set(FOREIGN_CASES.map(({ code, fate }) => `${code} ${fate}`));
    for (const { answer, code, fate } of FOREIGN)
      if (!answer.startsWith('not sent')) assert.ok(played.has(`${code} ${fate}`), answer);
  });
});

describe('what comes back for a call, until its deadline', { concurrency: 4 }, () => {
  const passing = [...ETCD_CASES, ...FOREIGN_CASES].filter(
    ({ fate, wire }) => FATES[fate].transient && !('goaway' in wire || 'cut' in wire),
  );
  for (const each of passing) {
    it(`${each.name}: ${each.fate}`, () =>
      onStages(each, { always: true }, ({ kind, name }, { error, requests }) => {
        const want = expected(each.fate, each.code, kind);
        assert.ok(hasCode(error, want.code), `${name}: ${String(error)}`);
        assert.equal(requests, want.again ? 4 : 1, name);
      }));
  }
});
