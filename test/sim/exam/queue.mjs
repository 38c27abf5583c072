// Faults that a review of the queue, barriers and stm found, as they were before they were mended.
const worker = 'src/queue/consume/worker.ts';
const job = 'src/queue/consume/job.ts';
const queue = 'src/queue/job-queue.ts';

export default [
  {
    id: 'queue 1',
    among: ['accounts'],
    what: 'stm: reads made at the same time are of different revisions',
    edits: [
      {
        file: 'src/stm/transaction.ts',
        from: `    const first = ask(undefined).then(
      ({ revision, value }) => {
        this.#pin = { is: 'set', revision };
        return value;
      },
      (error: unknown) => {
        this.#pin = { is: 'open' };
        throw error;
      },
    );
    this.#pin = { is: 'asked', settled: first.catch(() => undefined) };
    return first;
`,
        to: `    const first = ask(undefined);
    this.#pin = { is: 'asked', settled: first.catch(() => undefined).then(() => (this.#pin = { is: 'open' })) };
    const { revision, value } = await first.finally(() => {
      this.#pin = { is: 'open' };
    });
    await Promise.resolve();
    this.#pin = { is: 'set', revision };
    return value;
`,
      },
    ],
    test: 'stm/isolation "same time"',
  },
  {
    id: 'queue 2',
    what: 'producers starve each other on the tail of a priority',
    missing: 'that code is gone: numbers are given out without comparing the tail',
    test: 'queue/producers "further away"',
  },
  {
    id: 'queue 3a',
    among: ['jobs'],
    what: 'a copy of pause() or resume() that comes late pauses the queue again, or lets it run',
    edits: [
      {
        file: 'src/queue/store/pause.ts',
        from: '  for (;;) {\n    const found = await kv.get(paused);\n',
        to: `  const pause = { if: [compare.missing(paused)], then: [op.put(paused, value)] };
  await kv.txn(value === RUNNING ? { then: [op.delete(paused)] } : pause, { idempotent: true });
  if (value !== '') return;
  for (;;) {
    const found = await kv.get(paused);
`,
      },
    ],
    test: 'queue/upkeep "pause or its end"',
  },
  {
    id: 'queue 3b',
    among: ['barriers', 'double-barriers', 'latches'],
    what: 'a copy of a request that comes late holds a barrier, enters a double barrier, makes a latch again',
    edits: [
      {
        file: 'src/barrier/once.ts',
        from: '    const asked = await this.#ask(spec);\n',
        to: `    const sent = await this.#sent(() =>
      kv.txn({ else: spec.else, if: spec.if, then: spec.then }, { idempotent: true }),
    );
    if (sent.succeeded) return { applied: true, revision: sent.revision };
    if (spec.if.length >= 0) return { applied: false, found: sent.responses, revision: sent.revision };
    const asked = await this.#ask(spec);
`,
      },
      {
        file: 'src/barrier/round-keys.ts',
        from: 'const spec = { else: [op.get(key)], if: [], then: [op.put(key, value, { leaseId })] };',
        to: 'const spec = { else: [op.get(key)], if: [compare.missing(key)], then: [op.put(key, value, { leaseId })] };',
      },
    ],
    test: 'barrier/late-copies "do not"',
  },
  {
    id: 'queue 4',
    among: ['jobs'],
    what: 'a worker that is started while another one leaves is stopped, and says that it was asked to',
    edits: [
      {
        file: 'src/queue/consume/consumers.ts',
        from: "return this.#state.is === 'joining' || this.#state.is === 'open' || this.#state.is === 'idle';",
        to: "return this.#state.is !== 'over' && this.#state.is !== 'gone';",
      },
      {
        file: 'src/queue/consume/consumers.ts',
        from: "      case 'gone':\n",
        to: "      case 'gone':\n        this.#ended.abort(new ConclaveError('CLOSED', 'the consumer has left'));\n",
      },
      {
        file: worker,
        from: "    if (this.#base.closedByCaller()) this.#on({ timeoutMs, what: 'stop' });\n",
        to: "    const isClosed = error instanceof Error && 'code' in error && error.code === 'CLOSED';\n    if (this.#base.closedByCaller() || isClosed) this.#on({ timeoutMs, what: 'stop' });\n",
      },
    ],
    test: 'queue/worker-lives "is started while"',
  },
  {
    id: 'queue 5',
    among: ['jobs'],
    what: 'a worker whose event loop is busy in slices of 25 ms claims nothing: what it has read is too old each time',
    edits: [
      {
        file: 'src/queue/consume/prefetcher.ts',
        from: '    const sizes = this.#page.map(',
        to: '    if (this.#control.client.clock.now() - this.#learntAt > 25) this.#page = [];\n    const sizes = this.#page.map(',
      },
      {
        file: 'src/queue/consume/prefetcher.ts',
        from: '  #reads: FrontRead[] = [];\n',
        to: '  #reads: FrontRead[] = [];\n  #learntAt = 0;\n',
      },
      {
        file: 'src/queue/consume/prefetcher.ts',
        from: '    const page: Candidate[] = [];\n',
        to: '    const page: Candidate[] = [];\n    this.#learntAt = this.#control.client.clock.now();\n',
      },
    ],
    test: 'queue/worker-lives "holds the event loop"',
  },
  {
    id: 'queue 6',
    among: ['jobs'],
    what: 'a worker that stops while a hand-in is under way leaves the job active when that was declined or refused',
    edits: [
      {
        file: job,
        from: "    this.#on({ what: 'recall' });\n    this.#silence(why);\n",
        to: `    const wasHeld = this.#state.is === 'held';
    this.#on({ what: 'recall' });
    this.#silence(why);
    if (!wasHeld) return this.settled();
`,
      },
    ],
    test: 'queue/worker-lives "goes back"',
  },
  {
    id: 'queue 7',
    what: 'large jobs are claimed in answers that a slow link does not carry in time',
    missing: 'a network that is as fast for many bytes as for few',
    test: 'queue/large-jobs "over 1 MB/s"',
  },
  {
    id: 'queue 8',
    among: ['jobs'],
    what: 'a refused request takes away the slots that wait, and nobody says so',
    edits: [
      {
        file: worker,
        from: '      this.#forget(job);\n    } catch (error) {\n      this.#fail(error);\n    }\n',
        to: '      this.#forget(job);\n    } catch (error) {\n      if (this.#base.closedByCaller()) this.#fail(error);\n    }\n',
      },
    ],
    test: 'queue/worker-lives "Workers that etcd refuses"',
  },
  {
    id: 'queue 9',
    among: ['jobs'],
    what: 'close() makes the pushes of its handlers fail',
    edits: [
      {
        file: queue,
        from: '    this.#closing.abort(closed);\n',
        to: '    this.#closing.abort(closed);\n    this.#closed.abort(closed);\n',
      },
    ],
    test: 'queue/worker-lives "handlers may push"',
  },
  {
    id: 'queue 10',
    what: 'what comes back, and what falls due, is tried by everybody',
    missing: 'it costs transactions, and nothing of what is promised; nobody counts them here',
    test: 'queue/returned-jobs "lost worker", queue/upkeep "one client appends"',
  },
  {
    id: 'queue 11',
    among: ['jobs'],
    what: 'a handler that returns after a declined commit has its job acknowledged',
    edits: [
      {
        file: worker,
        from: "    if (job.declined) outcome ??= { error: new Error('its commit was declined, so it is not done') };\n",
        to: '',
      },
    ],
    test: 'queue/worker-lives "declined commit"',
  },
  {
    id: 'queue 12',
    among: ['jobs'],
    what: 'a read that is under way when the control keys are read anew hides jobs that have come back',
    edits: [
      {
        file: 'src/queue/consume/backlog-cursor.ts',
        from: '    this.#underWay = new Set();\n    this.#returnedTo.clear();\n    this.#announced = [];\n    this.#appended = [];\n',
        to: '    this.#returnedTo.clear();\n    this.#announced = [];\n    this.#appended = [];\n',
      },
    ],
    test: 'queue/front "under way"',
  },
  {
    id: 'queue 13',
    what: 'a queue object that has once dequeued stays a worker, with a share of the backlog',
    missing: 'nobody dequeues here, and who is a worker for how long is not judged',
    test: 'queue/worker-lives "only dequeues"',
  },
  {
    id: 'queue 14',
    what: "names of one primitive that are another's keys",
    missing: 'names are checked before anything is done; nothing of it depends on faults',
    test: 'contract/bad-input-locks "no name of anything", contract/beside-a-queue',
  },
  {
    id: 'queue 15',
    among: ['jobs'],
    what: 'a job whose data was removed by hand runs with the data of a later job of its id',
    edits: [
      {
        file: 'src/queue/store/bodies.ts',
        from: '  if (body.createRevision > bornAt)\n',
        to: '  if (body.createRevision < 0n && bornAt > 0n)\n',
      },
    ],
    test: 'queue/large-jobs "data somebody removed"',
  },
  {
    id: 'queue 16',
    what: 'each retryDead and removeDead leaks a name',
    missing: 'memory is not looked at',
    test: 'queue/leftovers "is forgotten"',
  },
];
