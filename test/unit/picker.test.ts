// Where a client that had to leave its member goes when that serves again, by a clock that the test moves.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { ManualClock } from 'conclave/testing';

import type { Endpoint } from '#conclave/etcd/transport/endpoint.js';
import type { Members } from '#conclave/etcd/transport/roster.js';
import { Picker } from '#conclave/etcd/transport/picker.js';

function membersOf(all: readonly unknown[]): Members {
  return { all: all as Endpoint[], onChange: () => () => undefined };
}

class Scene {
  readonly clock = new ManualClock({ nowMs: 1000 });
  readonly members = [0, 1, 2].map(() => ({ lot: Math.random(), ready: true, suspect: false }));
  readonly asked: unknown[] = [];
  serves = true;
  readonly picker = new Picker(membersOf(this.members), this.clock, (endpoint) => {
    this.asked.push(endpoint);
    return Promise.resolve(this.serves);
  });
  readonly home = this.now();

  now(): unknown {
    return this.picker.readyNow;
  }

  /** Goes on for `ms`, with a call each 100 ms; what was asked is answered. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 100) {
      await this.clock.advance(100);
      this.now();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  leave(): void {
    this.picker.avoid(this.home as Endpoint);
    assert.notEqual(this.now(), this.home);
  }
}

describe('a client that had to leave its member', () => {
  it('goes back once it serves again, and stays with another one until then', async () => {
    const scene = new Scene();
    scene.leave();
    scene.serves = false;
    await scene.pass(20_000);
    assert.notEqual(scene.now(), scene.home);
    assert.ok(scene.asked.length >= 6 && scene.asked.length <= 20, `asked ${scene.asked.length} times`);
    assert.deepEqual(new Set(scene.asked), new Set([scene.home]));
    scene.serves = true;
    await scene.pass(3100);
    assert.equal(scene.now(), scene.home);
    const { length } = scene.asked;
    await scene.pass(20_000);
    assert.equal(scene.asked.length, length, 'who is at home asks nobody');
  });

  it('does not ask while the member is under suspicion', async () => {
    const scene = new Scene();
    scene.leave();
    const home = scene.members.find((each) => each === scene.home);
    assert.ok(home);
    home.suspect = true;
    await scene.pass(10_000);
    assert.equal(scene.asked.length, 0);
    home.suspect = false;
    await scene.pass(3100);
    assert.equal(scene.now(), scene.home);
  });

  it('looks ever more rarely when it has to leave again soon after each return', async () => {
    const scene = new Scene();
    const waits: number[] = [];
    for (let at = 0; at < 7; at++) {
      scene.leave();
      let ms = 0;
      for (; scene.now() !== scene.home; ms += 100) await scene.pass(100);
      waits.push(ms);
    }
    assert.ok((waits[0] ?? 0) <= 3100, String(waits));
    assert.ok((waits[5] ?? 0) >= 30_000, String(waits));
    assert.ok(Math.max(...waits) <= 90_100, String(waits));
    await scene.pass(61_000);
    scene.leave();
    await scene.pass(3100);
    assert.equal(scene.now(), scene.home, 'whoever had settled looks soon again');
  });
});
