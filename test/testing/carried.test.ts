// What the simulated world carries is what a message would be read as, had it been written as bytes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { descriptor } from '#conclave/proto/descriptor.gen.js';
import { services } from '#conclave/proto/services.js';
import { carrierOf, carry, type Described } from '#conclave/testing/sim/carried.js';
import { Random } from '#conclave/testing/sim/random.js';

interface Codec {
  readonly path: string;
  readonly requestSerialize: (message: unknown) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (message: unknown) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

const MESSAGES_EACH = 30;

/** All types by their last name, which no two of them share but by being the same. */
const types = new Map<string, Described>();
const register = (at: Described): void => {
  for (const [name, nested] of Object.entries(at.nested ?? {})) {
    types.set(name, nested);
    register(nested);
  }
};
register(descriptor as Described);

function valueOf(type: string, random: Random, depth: number): unknown {
  switch (type) {
    case 'bool':
      return random.chance(0.5);
    case 'bytes':
      return random.pick([Buffer.from(random.id(3)), new Uint8Array([0, 255, random.below(256)]), '']);
    case 'int64':
      return random.pick([0n, -1n, 2n ** 63n - 1n, BigInt(random.below(1000)), random.below(1000)]);
    case 'uint64':
      return random.pick([0n, 2n ** 64n - 1n, BigInt(random.below(1000))]);
    case 'uint32':
      return random.pick([0, 2 ** 32 - 1]);
    case 'string':
      return random.pick(['', 'ä€𝄞', random.id(4)]);
  }
  const described = types.get(type.split('.').at(-1) ?? '') ?? {};
  const { values } = described;
  if (values !== undefined) return random.pick([...Object.keys(values), ...Object.values(values), 99]);
  return messageOf(described, random, depth + 1);
}

function messageOf({ fields = {}, oneofs = {} }: Described, random: Random, depth: number): unknown {
  const message: Record<string, unknown> = {};
  const chosen = Object.values(oneofs).map(({ oneof }) => random.pick(oneof));
  const inOneof = new Set(Object.values(oneofs).flatMap(({ oneof }) => oneof));
  for (const [name, { rule, type }] of Object.entries(fields)) {
    if (depth > 4 || random.chance(0.3) || (inOneof.has(name) && !chosen.includes(name))) continue;
    const count = random.below(3);
    message[name] =
      rule === 'repeated'
        ? Array.from({ length: count }, () => valueOf(type, random, depth))
        : random.pick([undefined, null, valueOf(type, random, depth), valueOf(type, random, depth)]);
  }
  return message;
}

function methodOf(path: string): { readonly request: Described; readonly response: Described } {
  const [, service = '', name = ''] = path.split('/');
  const { requestType = '', responseType = '' } =
    types.get(service.split('.').at(-1) ?? '')?.methods?.[name] ?? {};
  return { request: types.get(requestType) ?? {}, response: types.get(responseType) ?? {} };
}

describe('messages of the simulated world', () => {
  const random = new Random(1);
  const codecs = Object.values(services).flatMap((service: object) => Object.values(service) as Codec[]);

  test('all rpcs are looked at', () => assert.ok(codecs.length > 40, `${codecs.length}`));

  for (const codec of codecs)
    test(`are read as those of ${codec.path}`, () => {
      const { path, requestDeserialize, requestSerialize, responseDeserialize, responseSerialize } = codec;
      const carrier = carrierOf(path);
      const { request, response } = methodOf(path);
      for (let at = 0; at < MESSAGES_EACH; at++) {
        const asked = messageOf(request, random, 0);
        assert.deepEqual(
          { ...(carrier.request(asked) as object) },
          requestDeserialize(requestSerialize(asked)),
        );
        const said = messageOf(response, random, 0);
        assert.deepEqual(carrier.response(said), responseDeserialize(responseSerialize(said)));
      }
    });

  test('know how large their keys and values are', () => {
    const message = { key: Buffer.alloc(10), value: Buffer.alloc(1000) };
    const { request } = carrierOf(services.KV.Txn.path);
    assert.equal(carry(request, { success: [{ requestPut: message }, { requestPut: message }] }).bytes, 2020);
    assert.equal(carry(request, {}).bytes, 0);
  });
});
