// The same random operations on a real etcd's v2 store and on `conclave/keys` give the same answers. `CONCLAVE_SEED` repeats
// a run. Indices are compared by what they say (same, later), since the two stores count differently.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { Client } from 'conclave';
import { KeysAPI } from 'conclave/keys';
import { type EtcdCluster, startEtcd } from 'conclave/testing';

import { newRandom, type Random } from '../model/random.js';
import { type Answer, type Node, onOurs, onServer, type Operation } from './v2-server.js';

const OPERATIONS = 5000;
const PARTS = ['a', 'b', 'c', '_h'];
const VALUES = ['1', '2', 'ü/\n x', ''];
/** Nothing expires while this runs. */
const TTL = 1000;

/** An index of one side is the same moment as one of the other, and no other: kept both ways. */
class Moments {
  readonly #ours = new Map<number, number>([[0, 0]]);
  readonly #theirs = new Map<number, number>([[0, 0]]);

  check(theirs: number, ours: number, what: string): void {
    assert.equal(this.#ours.get(theirs) ?? ours, ours, `${what}: v2's ${theirs} was another index of ours`);
    assert.equal(this.#theirs.get(ours) ?? theirs, theirs, `${what}: our ${ours} was another index of v2's`);
    this.#ours.set(theirs, ours);
    this.#theirs.set(ours, theirs);
  }

  /** Later here is later there. */
  checkOrder(): void {
    const ours = [...this.#ours].sort(([a], [b]) => a - b).map(([, index]) => index);
    assert.deepEqual(
      ours,
      [...ours].sort((a, b) => a - b),
    );
  }
}

/** The names made by createInOrder, numbered: the n-th of one side is the n-th of the other. */
class InOrder {
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];

  readonly short = (key: string): string =>
    key.replaceAll(/\d{20}/g, (name) => {
      const number = this.#numbers.get(name) ?? this.#numbers.size;
      if (!this.#numbers.has(name)) this.#names.push(name);
      this.#numbers.set(name, number);
      return `#${number}`;
    });

  /** The key with the names of this side. */
  long(key: string): string {
    return key.replaceAll(/#(\d+)/g, (_, number: string) => this.#names[Number(number)] ?? 'none');
  }

  get names(): readonly string[] {
    return this.#names;
  }
}

function randomKey(random: Random, ordered: number): string {
  const parts = Array.from({ length: random.int(4) + (random.chance(0.97) ? 1 : 0) }, () =>
    random.pick(PARTS),
  );
  if (ordered > 0 && random.chance(0.1)) parts.push(`#${random.int(ordered)}`);
  const key = `/${parts.join('/')}`;
  return random.chance(0.05) ? `/${key}//.` : key;
}

function randomOperation(random: Random, ordered: number): Operation {
  const key = randomKey(random, ordered);
  const value = random.pick(VALUES);
  const ttl = random.chance(0.2) ? { ttl: TTL + random.int(3) * 100 } : {};
  const method = random.weighted({ DELETE: 3, GET: 4, POST: 1, PUT: 8 });
  if (method === 'GET') return { key, method, ...(random.chance(0.5) ? { recursive: true } : {}) };
  if (method === 'POST') return { key, method, value, ...ttl };
  const compares: Pick<Operation, 'prevIndex' | 'prevValue'> = {
    ...(random.chance(0.2) ? { prevIndex: random.chance(0.7) ? 'right' : 'wrong' } : {}),
    ...(random.chance(0.2) ? { prevValue: random.pick(VALUES.slice(0, 3)) } : {}),
  };
  if (method === 'DELETE') {
    const flags = random.pick([{}, {}, { dir: true }, { recursive: true }] as const);
    return { key, method, ...flags, ...compares };
  }
  const kind = random.weighted({ create: 2, dir: 2, refresh: 1, set: 5, update: 2 });
  if (kind === 'create')
    return { key, method, prevExist: false, ...ttl, ...(random.chance(0.3) ? { dir: true } : { value }) };
  const exist = random.chance(0.3) || kind === 'update' ? { prevExist: true } : {};
  if (kind === 'refresh') return { key, method, refresh: true, ttl: TTL, ...exist, ...compares };
  if (kind === 'dir') return { dir: true, key, method, ...ttl, ...exist };
  return { key, method, value, ...ttl, ...exist, ...compares };
}

/** Everything but indices and the seconds that have gone by. */
function outline(answer: Answer): unknown {
  const of = ({ dir, key, nodes, ttl, value }: Node): unknown => ({
    dir,
    key,
    nodes: nodes.map(of),
    ttl: ttl !== undefined,
    value,
  });
  if ('errorCode' in answer) {
    const { cause, errorCode } = answer;
    // An index that did not compare is another number on each side.
    return { cause: errorCode === 101 ? cause.replaceAll(/\[\d+ != \d+\]/g, '[index]') : cause, errorCode };
  }
  const { action, node, prevNode } = answer;
  return { action, node: of(node), prevNode: prevNode === undefined ? undefined : of(prevNode) };
}

function compareNodes(moments: Moments, theirs: Node, ours: Node): void {
  moments.check(theirs.created, ours.created, `createdIndex of ${theirs.key}`);
  moments.check(theirs.modified, ours.modified, `modifiedIndex of ${theirs.key}`);
  if (theirs.ttl !== undefined && ours.ttl !== undefined)
    assert.ok(Math.abs(theirs.ttl - ours.ttl) <= 2, `ttl of ${theirs.key}: ${theirs.ttl}, ours ${ours.ttl}`);
  for (const [at, node] of theirs.nodes.entries()) {
    const other = ours.nodes[at];
    assert.ok(other !== undefined);
    compareNodes(moments, node, other);
  }
}

describe('keys, beside the v2 store of a real etcd', () => {
  let cluster: EtcdCluster;
  let client: Client;
  before(async () => {
    cluster = await startEtcd({ args: ['--enable-v2=true'] });
    client = new Client({ endpoints: cluster.endpoints });
  });
  after(async () => {
    await client.close();
    await cluster.close();
  });

  it(`answers ${OPERATIONS} random operations as etcd 3.4 does`, async (t) => {
    const { version } = await client.maintenance.status();
    // 3.5's lets "not a file" through as an error of its raft, 300, and does not update directories.
    if (!version.startsWith('3.4.')) {
      t.skip(`etcd ${version} is here: its v2 store differs`);
      return;
    }
    const random = newRandom('keys');
    const keys = new KeysAPI(client, { prefix: 'diff' });
    const endpoint = cluster.endpoints[0] ?? '';
    const moments = new Moments();
    const [theirNames, ourNames] = [new InOrder(), new InOrder()];
    const seen = new Map<string, number>();
    const trail: string[] = [];
    /** The modifiedIndex of nodes, for comparisons that are to hold: of both sides. */
    const known = new Map<string, readonly [number, number]>();

    for (let done = 0; done < OPERATIONS; done++) {
      const operation = randomOperation(random, ourNames.names.length);
      const [theirIndex, ourIndex] = known.get(operation.key) ?? [1, 1];
      const right = operation.prevIndex === 'right';
      const given = operation.prevIndex !== undefined;
      const [theirs, ours] = await Promise.all([
        onServer(
          endpoint,
          { ...operation, key: theirNames.long(operation.key) },
          { names: theirNames.short, prevIndex: given ? (right ? theirIndex : 1) : undefined },
        ),
        onOurs(
          keys,
          { ...operation, key: ourNames.long(operation.key) },
          { names: ourNames.short, prevIndex: given ? BigInt(right ? ourIndex : 1) : undefined },
        ),
      ]);
      trail.push(JSON.stringify(operation));
      const context = `operation ${done}, after:\n${trail.slice(-15).join('\n')}\n`;
      assert.deepEqual(outline(ours), outline(theirs), context);
      if ('errorCode' in theirs || 'errorCode' in ours) {
        const name = 'errorCode' in theirs ? String(theirs.errorCode) : '';
        seen.set(name, (seen.get(name) ?? 0) + 1);
        continue;
      }
      seen.set(theirs.action, (seen.get(theirs.action) ?? 0) + 1);
      compareNodes(moments, theirs.node, ours.node);
      if (theirs.prevNode !== undefined && ours.prevNode !== undefined)
        compareNodes(moments, theirs.prevNode, ours.prevNode);
      if (theirs.node.key !== '/') known.set(theirs.node.key, [theirs.node.modified, ours.node.modified]);
    }

    moments.checkOrder();
    for (const names of [theirNames.names, ourNames.names]) assert.deepEqual(names, [...names].sort());
    // A run in which something never happened has not compared it.
    const answers = ['get', 'set', 'create', 'update', 'compareAndSwap', 'delete', 'compareAndDelete'];
    for (const what of [...answers, '100', '101', '102', '104', '105', '107', '108'])
      assert.ok((seen.get(what) ?? 0) > 0, `${what} never came about: ${JSON.stringify([...seen])}`);
    await keys.delete('/a', { recursive: true }).catch(() => undefined);
  });
});
