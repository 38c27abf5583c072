// RangeStream of the embedded server: all its parts together are what Range answers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { status } from '@grpc/grpc-js';
import type { RangeRequestInput, RangeResponse } from '#conclave/proto/messages.gen.js';
import { services } from '#conclave/proto/services.js';
import { Bench } from './harness.js';

const { Put, Range, RangeStream } = services.KV;
const ALL = { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) };

async function parts(bench: Bench, request: RangeRequestInput): Promise<RangeResponse[]> {
  const { path, requestSerialize, responseDeserialize } = RangeStream;
  const stream = bench.grpc.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
  const all: RangeResponse[] = [];
  for await (const { rangeResponse } of stream as AsyncIterable<{ rangeResponse: RangeResponse }>)
    all.push(rangeResponse);
  return all;
}

describe('RangeStream of the embedded server', () => {
  test('brings in parts, with header, count and more in the last, what Range answers', async () => {
    await using bench = await Bench.start();
    for (let at = 0; at < 100; at++)
      await bench.call(Put, {
        key: Buffer.from(`k${at}`),
        value: Buffer.alloc(at === 50 ? 1_200_000 : 30_000),
      });
    const requests: readonly RangeRequestInput[] = [
      ALL,
      { ...ALL, limit: 7n },
      { ...ALL, limit: 10n },
      { ...ALL, limit: 67n },
      { ...ALL, limit: 100n },
      { ...ALL, keysOnly: true },
      { ...ALL, countOnly: true },
      { ...ALL, revision: 60n },
      { ...ALL, sortOrder: 'ASCEND' },
      { key: Buffer.from('k5') },
      { key: Buffer.from('none') },
      { key: Buffer.from('k9'), rangeEnd: Buffer.from('k1') },
    ];
    for (const request of requests) {
      const all = await parts(bench, request);
      const last = all.at(-1);
      const whole = await bench.call(Range, request);
      const kvs = all.flatMap((part) => part.kvs);
      assert.deepEqual({ ...last, kvs }, whole);
      assert.ok(
        all.slice(0, -1).every(({ count, header, more }) => header === null && count === 0n && !more),
      );
      const bytes = (part: RangeResponse): number => part.kvs.reduce((sum, kv) => sum + kv.value.length, 0);
      assert.ok(all.every((part) => bytes(part) < 2 * 1.5 * 1024 * 1024 + 1_200_000));
    }
    assert.ok((await parts(bench, ALL)).length > 3);
  });

  test('refuses an order that is not that of keys, a filter, and a revision that is not there', async () => {
    await using bench = await Bench.start();
    const refused: readonly (readonly [RangeRequestInput, number, RegExp])[] = [
      [{ ...ALL, sortOrder: 'DESCEND' }, status.UNIMPLEMENTED, /custom sort orders/],
      [{ ...ALL, sortOrder: 'ASCEND', sortTarget: 'MOD' }, status.UNIMPLEMENTED, /custom sort orders/],
      [{ ...ALL, minModRevision: 3n }, status.UNIMPLEMENTED, /revision filters/],
      [{ ...ALL, revision: 99n }, status.OUT_OF_RANGE, /future revision/],
      [{ key: Buffer.alloc(0) }, status.INVALID_ARGUMENT, /key is not provided/],
    ];
    for (const [request, code, details] of refused)
      await assert.rejects(parts(bench, request), { code, details });
  });
});
