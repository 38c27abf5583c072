// A watch's life, as the table at the head of src/etcd/watch/watch.ts has it: every event in every state.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConclaveError } from 'conclave';
import { ManualClock } from 'conclave/testing';
import type { KeyRange } from '#conclave/etcd/kv/key-range.js';
import { KeyValue } from '#conclave/etcd/kv/key-value.js';
import type { RangeResult } from '#conclave/etcd/kv/kv-results.js';
import type { WatchRequest, WatchSink } from '#conclave/etcd/watch/streamed-watch.js';
import { Watcher, type WatchOptions } from '#conclave/etcd/watch/watch.js';
import type { WatchEvent } from '#conclave/etcd/watch/watch-event.js';
import { withCode } from '../contract/support/rejections.js';

/** A watch on the server, of a stream that is played by hand. */
interface Subscribed {
  readonly request: WatchRequest;
  readonly sink: WatchSink;
  nextRevision: bigint;
  cancelled: boolean;
}

function keyAt(modRevision: bigint): KeyValue {
  const wire = { createRevision: modRevision, key: Buffer.from('k'), lease: 0n, modRevision, version: 1n };
  return new KeyValue({ ...wire, value: Buffer.from(String(modRevision)) });
}

/** A watch on a stream and a store that do what the test says. */
class Stage {
  readonly closing = new AbortController();
  readonly subscribed: Subscribed[] = [];
  readonly reads: { readonly signal: AbortSignal | undefined; answer(result: Promise<RangeResult>): void }[] =
    [];
  readonly watch: Watcher;

  constructor(options: WatchOptions) {
    const kv = {
      range: (_: KeyRange, { signal }: { readonly signal?: AbortSignal | undefined } = {}) =>
        new Promise<RangeResult>((resolve, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
          this.reads.push({ answer: resolve, signal });
        }),
    };
    const subscribe = (request: WatchRequest, sink: WatchSink) => {
      const one = { cancelled: false, nextRevision: request.startRevision, request, sink };
      this.subscribed.push(one);
      return {
        cancel: () => void (one.cancelled = true),
        epoch: 0,
        get nextRevision() {
          return one.nextRevision;
        },
      };
    };
    const connection = { clock: new ManualClock(), closed: this.closing.signal };
    this.watch = new Watcher({ connection, kv, stream: { subscribe } }, 'k', options);
  }

  /** The watches that are on the server. */
  get live(): Subscribed[] {
    return this.subscribed.filter(({ cancelled }) => !cancelled);
  }

  /** Something happens to the key, and whoever is on the server is told. */
  event(revision: bigint): void {
    const event: WatchEvent = { kv: keyAt(revision), prevKv: undefined, type: 'put' };
    for (const one of this.live) {
      one.nextRevision = revision + 1n;
      one.sink.events([event], revision);
    }
  }

  /** The server says that the watch's next revision is gone. */
  compacted(): void {
    const [one] = this.live;
    assert.ok(one !== undefined);
    one.cancelled = true;
    one.sink.failed(new ConclaveError('COMPACTED', 'compacted'));
  }

  /** The snapshot that is being read is there. */
  async answer(revision: bigint): Promise<void> {
    const kvs = [keyAt(revision)];
    this.reads.at(-1)?.answer(Promise.resolve({ count: 1n, kvs, more: false, revision }));
    await turn();
  }

  /** What the reader gets next, if something is there: revisions, or the snapshot's. */
  async take(): Promise<string> {
    const next = this.watch.next();
    const result = await Promise.race([next, turn().then(() => undefined)]);
    if (result === undefined) return 'nothing';
    if (result.done === true) return 'end';
    const { events, snapshot } = result.value;
    const seen = snapshot ?? events.map(({ kv }) => kv);
    return `${snapshot === undefined ? '' : 'snapshot '}${seen.map((kv) => kv.string()).join()}`;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** How a watch with a buffer of two gets into each state that is not its end. */
const WAYS = {
  following: (stage: Stage) => {
    stage.event(5n);
  },
  paused: (stage: Stage) => {
    stage.event(5n);
    stage.event(6n);
  },
  relisting: (stage: Stage) => {
    stage.event(5n);
    stage.compacted();
  },
} as const;
type Phase = keyof typeof WAYS;

function stageIn(phase: Phase, options: WatchOptions = {}): Stage {
  const stage = new Stage({ bufferSize: 2, onCompacted: 'relist', ...options });
  WAYS[phase](stage);
  return stage;
}

/** What a state has under way: watches on the server, and reads that have not been given up. */
function underWay(stage: Stage): { readonly watches: number; readonly reads: number } {
  return {
    reads: stage.reads.filter(({ signal }) => signal?.aborted !== true).length,
    watches: stage.live.length,
  };
}

describe('the life of a watch', () => {
  test('each state has under way what it needs and no more', () => {
    assert.deepEqual(underWay(stageIn('following')), { reads: 0, watches: 1 });
    assert.deepEqual(underWay(stageIn('paused')), { reads: 0, watches: 0 });
    assert.deepEqual(underWay(stageIn('relisting')), { reads: 1, watches: 0 });
  });

  test('following: a full buffer pauses it, and a reader that takes changes nothing', async () => {
    const stage = stageIn('following');
    assert.equal(await stage.take(), '5');
    assert.deepEqual(underWay(stage), { reads: 0, watches: 1 });
    stage.event(6n);
    stage.event(7n);
    assert.deepEqual(underWay(stage), { reads: 0, watches: 0 });
    assert.equal(stage.subscribed.length, 1);
  });

  test('paused: it follows again after the last that was delivered, once half of the buffer is free', async () => {
    const stage = stageIn('paused', { bufferSize: 4 });
    stage.event(7n);
    stage.event(8n);
    assert.equal(stage.live.length, 0);
    assert.equal(await stage.take(), '5');
    assert.equal(stage.live.length, 0);
    assert.equal(await stage.take(), '6');
    assert.deepEqual(
      stage.live.map(({ request }) => request.startRevision),
      [9n],
    );
    assert.equal(await stage.take(), '7');
    assert.equal(stage.subscribed.length, 2);
  });

  test('relisting: a reader that takes starts nothing; one snapshot comes, and one watch after it', async () => {
    const stage = stageIn('paused');
    await stage.take();
    stage.compacted();
    assert.equal(await stage.take(), '6');
    assert.deepEqual(underWay(stage), { reads: 1, watches: 0 });
    assert.equal(await stage.take(), 'nothing');
    assert.deepEqual(underWay(stage), { reads: 1, watches: 0 });
    await stage.answer(20n);
    assert.deepEqual(
      stage.live.map(({ request }) => request.startRevision),
      [21n],
    );
    stage.event(21n);
    stage.watch.close();
    assert.deepEqual(underWay(stage).watches, 0);
  });

  test('relisting: a snapshot that fills the buffer pauses it', async () => {
    const stage = stageIn('relisting');
    await stage.answer(20n);
    assert.equal(stage.live.length, 0);
    assert.equal(await stage.take(), '5');
    assert.deepEqual(
      stage.live.map(({ request }) => request.startRevision),
      [21n],
    );
    assert.equal(await stage.take(), 'snapshot 20');
  });

  test('relisting: what is compacted between two pages is read anew, what passes is waited for, the rest ends it', async () => {
    const stage = stageIn('relisting');
    stage.reads.at(-1)?.answer(Promise.reject(new ConclaveError('COMPACTED', 'gone')));
    await turn();
    assert.equal(stage.reads.length, 2);
    stage.reads.at(-1)?.answer(Promise.reject(new ConclaveError('PERMISSION_DENIED', 'no')));
    await turn();
    assert.equal(await stage.take(), '5');
    await assert.rejects(stage.watch.next(), withCode('PERMISSION_DENIED'));
    assert.equal(await stage.take(), 'end');
  });

  test('a compacted watch that may not relist is over', async () => {
    const stage = stageIn('following', { onCompacted: 'error' });
    stage.compacted();
    assert.equal(await stage.take(), '5');
    await assert.rejects(stage.watch.next(), withCode('COMPACTED'));
    assert.equal(stage.reads.length, 0);
  });

  for (const phase of Object.keys(WAYS) as Phase[]) {
    const ends: Record<string, (stage: Stage, abort: AbortController) => unknown> = {
      'close()': (stage) => stage.watch.close(),
      'leaving the loop': (stage) => stage.watch.return(),
      'the client’s end': (stage) => stage.closing.abort(new ConclaveError('CLOSED', 'closed')),
      'the signal': (_, abort) => abort.abort(new ConclaveError('TIMEOUT', 'enough')),
    };
    for (const [what, end] of Object.entries(ends)) {
      test(`${phase}: ${what} ends it and whatever it had under way, for good`, async () => {
        const abort = new AbortController();
        const stage = stageIn(phase, { signal: abort.signal });
        await end(stage, abort);
        assert.deepEqual(underWay(stage), { reads: 0, watches: 0 });
        const asked = stage.subscribed.length + stage.reads.length;
        await stage.answer(20n);
        stage.watch.close();
        for (let n = 0; n < 3; n++) await stage.watch.next().catch(() => undefined);
        assert.equal(await stage.take(), 'end');
        assert.equal(stage.subscribed.length + stage.reads.length, asked);
        assert.deepEqual(underWay(stage), { reads: 0, watches: 0 });
        await assert.rejects(stage.watch.created);
      });
    }
  }
});
