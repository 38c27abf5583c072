// Faults that a review of sessions, tickets, locks and elections found, as they were before they were mended.
const attempt = 'src/ticket/attempt.ts';
const floor = 'src/session/floor.ts';
const hold = 'src/ticket/hold.ts';
const multiMutex = 'src/mutex/multi-mutex.ts';
const upgrade = 'src/mutex/rw-upgrade.ts';

/** There was no floor: what comes late was looked for, three times. */
const noFloor = {
  file: floor,
  from: '  const key = keyOf(leaseId);\n  try {\n',
  to: '  const key = keyOf(leaseId);\n  return { madeAt: 0n, value: DENIED };\n  try {\n',
};

/** A hold that is lost left its key where it was. */
const lostStays = {
  file: hold,
  from: '    else void this.release().catch(() => undefined);\n',
  to: '',
};

export default [
  {
    id: 'locks 1',
    among: ['locks', 'elections', 'read-write'],
    what: 'what a wait that was given up has sent twice is not looked for: its key blocks the name',
    edits: [
      noFloor,
      {
        file: attempt,
        from: 'await withinLimit(this.#session, this.#remove(mayBeThere));',
        to: `const isKnown = writing.then(
        () => true,
        (cause: unknown) => !hasCode(cause, 'UNKNOWN_OUTCOME'),
      );
      await withinLimit(this.#session, this.#remove(mayBeThere, isKnown));`,
      },
      {
        file: attempt,
        from: 'async #remove(mayBeThere: Promise<boolean>): Promise<void> {',
        to: 'async #remove(mayBeThere: Promise<boolean>, isKnown?: Promise<boolean>): Promise<void> {',
      },
      {
        file: attempt,
        from: '    } finally {\n      this.over();\n    }\n',
        to: `    } finally {
      if ((await isKnown) === true) this.#state = 'over';
      else this.over();
    }
`,
      },
    ],
    test: 'faults/attempts "given up before"',
  },
  {
    id: 'locks 2',
    among: ['locks'],
    what: 'a MultiMutex takes what it saw of one name when it asked as proof, however long it waited for another',
    edits: [
      {
        file: multiMutex,
        from: `  const stops = tickets.map(({ createRevision, key, line }) =>
    line.follow({ createRevision, gone: () => failed.abort(ticketLost(key)), key }),
  );
  try {
    const waiting = tickets.filter(({ firstAt }) => firstAt === undefined);
    const [proof = 0n] = await Promise.all(waiting.map((ticket) => ticket.turn(firstOnly, limit.signal)));
    return tickets.length === 1 ? proof : await proofOfAll(client, tickets, limit.signal);
`,
        to: `  const stops: (() => void)[] = [];
  try {
    const proofs = await Promise.all(
      tickets.map(async (ticket) => ticket.firstAt ?? (await ticket.turn(firstOnly, limit.signal))),
    );
    signal.throwIfAborted();
    return proofs.reduce((most, proof) => (proof > most ? proof : most));
`,
      },
    ],
    test: 'faults/several-locks "who waits for one name"',
  },
  {
    id: 'locks 3',
    among: ['locks', 'elections'],
    what: "what an earlier life on a lease removes is told by the lease alone: it removes the next life's key",
    edits: [
      {
        file: attempt,
        from: '    const specs = this.#traces.map(removalOf);\n',
        to: `    const specs = this.#traces.map((trace) => ({
      ...removalOf(trace),
      if: [compare.lease(trace.key, '=', this.#session.leaseId)],
    }));
`,
      },
    ],
    test: 'faults/attempts "answer overdue: the key"',
  },
  {
    id: 'locks 4',
    among: ['elections'],
    what: 'observe() more than 1,000 changes behind: the newest comes before an older one, which is the last',
    edits: [
      {
        file: 'src/election/observe.ts',
        from: '  const queue = new AsyncQueue<LeaderInfo | undefined>(() => stop());\n',
        to: `  let latest: { readonly leader: LeaderInfo | undefined } | undefined;
  const queue = new AsyncQueue<LeaderInfo | undefined>(
    () => stop(),
    () => {
      if (latest === undefined || queue.size > 0) return;
      queue.push(latest.leader);
      latest = undefined;
    },
  );
`,
      },
      {
        file: 'src/election/observe.ts',
        from: '    queue.pushOver(leader, MOST_PENDING);\n',
        to: '    if (queue.size < MOST_PENDING) queue.push(leader);\n    else latest = { leader };\n',
      },
    ],
    test: 'faults/observers "observer"',
  },
  {
    id: 'locks 5',
    among: ['read-write'],
    what: 'an upgrade that is refused removes the request of another reader of its session, which waits for ever',
    edits: [
      {
        file: upgrade,
        from: 'new Attempt(session, [{ key, mark: value }])',
        to: `new Attempt(session, [
    {
      key,
      removal: [
        op.txn({ if: [compare.lease(key, '=', session.leaseId)], then: [op.delete(key)] }),
      ],
    },
  ])`,
      },
      {
        file: upgrade,
        from: 'beside?.modRevision === request.askedAt ? undefined : requestLost(request);',
        to: 'beside?.modRevision === request.askedAt ? undefined : undefined;',
      },
    ],
    test: 'faults/attempts "sent twice waits"',
  },
  {
    id: 'locks 6',
    what: 'local waits that were given up stay in their queue: memory, and a loop that is blocked when it moves on',
    missing: 'it costs processor time and memory, not time of the world',
    test: 'contract/local-turns "all given up"',
  },
  {
    id: 'locks 7',
    what: 'a write waits for watches that are asked for after it',
    edits: [
      {
        file: 'src/etcd/kv/write-gate.ts',
        from: '      if (turn.upTo >= oldest) break;\n',
        to: '      if (oldest !== Infinity) break;\n',
      },
    ],
    test: 'contract/write-gate "asked for before it"',
  },
  {
    id: 'locks 8',
    among: ['read-write'],
    what: 'an upgrade whose request is removed from outside waits for ever',
    edits: [
      {
        file: upgrade,
        from: 'beside?.modRevision === request.askedAt ? undefined : requestLost(request);',
        to: 'beside?.modRevision === request.askedAt ? undefined : undefined;',
      },
    ],
    test: 'faults/upgrade-losses "removed from outside says"',
  },
  {
    id: 'locks 9',
    among: ['elections'],
    what: 'a copy of a proclaim that comes late puts the older value back',
    edits: [
      {
        file: 'src/ticket/ticket.ts',
        from: "const unwritten = marks || blindly ? [] : [compare.modRevision(this.key, '=', this.#modRevision)];",
        to: 'const unwritten: Compare[] = [];',
      },
    ],
    test: 'faults/late-writes "does not come back"',
  },
  {
    id: 'locks 10',
    among: ['read-write', 'locks', 'semaphores'],
    what: 'a lease that is resumed keeps the keys of one use of the life before',
    edits: [
      {
        file: 'src/session/session.ts',
        from: '      if (!isNew) await removeKeysOfOneUse(client, term.id, left());\n',
        to: '',
      },
    ],
    test: 'contract/resumed "of the earlier life are given back"',
  },
  {
    id: 'locks 11',
    among: ['locks', 'elections'],
    what: 'a hold follows one line, not the one that takes its place when the watch is refused',
    edits: [
      {
        file: 'src/ticket/lines.ts',
        from: '  const stop = new AbortController();\n',
        to: '  if (follower.key !== undefined) return lineOf(client, name).follow(follower);\n  const stop = new AbortController();\n',
      },
    ],
    test: 'faults/lines "followed again"',
  },
  {
    id: 'locks 12',
    among: ['elections'],
    what: 'Election.run takes a leadership that was resigned for one that was lost, and campaigns again at once',
    edits: [
      {
        file: 'src/election/election.ts',
        from: '  return won.wasLost ? undefined : { result };\n',
        to: '  return won.held ? { result } : undefined;\n',
      },
      {
        file: 'src/election/election.ts',
        from: '        if (setbacks > 0) await sleep(client.clock, backoffMs(setbacks - 1, PAUSE), signal);\n',
        to: '',
      },
    ],
    test: 'contract/election-run "steps down"',
  },
  {
    id: 'locks 13',
    among: ['read-write'],
    what: 'a write through a read hold while its upgrade is answered late: the hold is taken for lost, and its key stays',
    edits: [
      {
        file: hold,
        from: 'const loss = await orAborted(this.ticket.lossSince(this.#mark, result.responses), options.signal);\n      if (loss !== undefined) this.lost(loss);\n',
        to: 'this.lost(this.ticket.judge(result.responses));\n',
      },
      lostStays,
    ],
    test: 'faults/upgrade-losses "unknown to us"',
  },
  {
    id: 'locks 14',
    among: ['locks'],
    what: 'keys that are not UTF-8 are one key to a line',
    edits: [
      {
        file: 'src/ticket/line-keys.ts',
        from: "return (typeof key === 'string' ? Buffer.from(key) : key.keyBytes).toString('latin1');",
        to: "return typeof key === 'string' ? key : key.key;",
      },
    ],
    test: 'faults/lines "not UTF-8"',
  },
  {
    id: 'locks 15',
    among: ['semaphores'],
    what: 'a copy of Semaphore.delete that comes late deletes what was agreed since',
    edits: [
      {
        file: 'src/mutex/agreement.ts',
        from: 'const steps = { if: [...this.#as(found), ...nobody], then: [op.delete(this.key)] };',
        to: 'const steps = { if: nobody, then: [op.delete(this.key)] };',
      },
    ],
    test: 'faults/late-writes "stay so"',
  },
  {
    id: 'locks 16',
    among: ['locks'],
    what: 'a MultiLock that has lost one name keeps the others until it is unlocked',
    edits: [lostStays],
    test: 'faults/several-locks "lost give"',
  },
  {
    id: 'locks 17',
    among: ['locks', 'semaphores'],
    what: 'the margin is compared with the TTL asked for, not with that of the lease',
    edits: [
      {
        file: 'src/session/session.ts',
        from: '    checkMargin(options.marginMs, term.ttlSeconds);\n',
        to: '    checkMargin(options.marginMs, ttlSeconds);\n',
      },
    ],
    test: 'contract/session "margin of a resumed"',
  },
  {
    id: 'locks 18',
    what: 'each event of a name costs as much as the name has holds',
    missing: 'it costs processor time, not time of the world',
    test: 'faults/lines "not every hold"',
  },
  {
    id: 'locks 19',
    what: 'waits of more than 24.8 days end early',
    missing: "a world's clock is not Node's, whose timers are cut",
    test: 'unit/clock',
  },
];
