// Faults that a review of the etcd client found, as they were before they were mended.
const watch = 'src/etcd/watch/watch.ts';
const gate = 'src/etcd/kv/write-gate.ts';

export default [
  {
    id: 'client 1',
    among: ['watches'],
    what: 'a relisting watch whose reader is slow begins a second one: two snapshots, then every event twice',
    edits: [
      {
        file: watch,
        from: "    if (this.#state.phase === 'paused' && this.#queue.size <= this.#bufferSize / 2) this.#follow();\n",
        to: "    const isFollowing = this.#state.phase === 'following' || this.#state.phase === 'over';\n    if (!isFollowing && this.#queue.size <= this.#bufferSize / 2) this.#follow();\n",
      },
      {
        file: watch,
        from: "    if (left.phase === 'following') left.subscription.cancel();\n    if (left.phase === 'relisting') left.stop.abort(OVER);\n",
        to: "    if (left.phase === 'following' && state.phase !== 'following') left.subscription.cancel();\n",
      },
      {
        file: watch,
        from: '      if (this.#state !== relisting) return;\n',
        to: "      if ((this.#state as State).phase === 'over') return;\n",
      },
      {
        file: watch,
        from: "    else if (this.#state.phase !== 'following') this.#follow();\n",
        to: '    else if (batch.snapshot !== undefined) this.#follow();\n',
      },
    ],
    test: 'contract/watch-life "one snapshot"',
  },
  {
    id: 'client 2',
    what: 'each stream that has ended stays in memory until the client is closed',
    missing: 'memory is not looked at, and streams are not of gRPC',
    test: 'etcd/streams "keeps none of"',
  },
  {
    id: 'client 3',
    what: 'with several endpoints nothing that takes longer than 1.5 s succeeds',
    missing: 'a member that is alive and takes its time: each answers at once, or not at all',
    test: 'etcd/several-members "with several"',
  },
  {
    id: 'client 4',
    among: ['registers'],
    what: 'a write that was applied, and answered with "no space", is taken for refused',
    edits: [{ file: 'src/errors/fates.ts', from: "NO_SPACE: 'unsettled'", to: "NO_SPACE: 'refused'" }],
    test: 'faults/outcomes "no space for"',
  },
  {
    id: 'client 5',
    what: 'maintenance.snapshot: its signal, its errors, its tokens, its end',
    missing: 'there are no snapshots in this world',
    test: 'etcd/snapshot',
  },
  {
    id: 'client 5b',
    what: 'hashKv and defragment do not renew a token, which etcd 3.5 refuses in other words',
    missing: "maintenance calls, and 3.5's words for them",
    test: 'faults/outcomes "only maintains"',
  },
  {
    id: 'client 6',
    among: ['registers', 'watches'],
    what: 'a call outlives its time limit by half while a watch is being created',
    edits: [
      {
        file: gate,
        from: '    return write(limits.timeoutMs === undefined ? limits : left());\n',
        to: '    return write(limits);\n',
      },
    ],
    test: 'contract/write-gate "not half as late"',
  },
  {
    id: 'client 7',
    among: ['watches'],
    what: 'what is written after a watch was made is missed by it, when its creation takes over a second',
    edits: [
      {
        file: gate,
        from: '    if (this.#turns.has(turn)) await this.#overtake(turn, what, left());\n',
        to: '',
      },
    ],
    test: 'contract/write-gate "is seen although"',
  },
  {
    id: 'client 8',
    among: ['registers'],
    what: 'calls that were sent together and met an error that passes are made alone, without time',
    edits: [
      {
        file: 'src/etcd/kv/batcher.ts',
        from: `      !isTransient(error) &&
      !hasCode(error, 'NOT_ETCD', 'TLS_FAILED') &&
      (this.#kind === 'read' || provesNothingWritten(error));
`,
        to: "      !hasCode(error, 'NOT_ETCD', 'TLS_FAILED');\n",
      },
    ],
    test: 'etcd/batch "refused together"',
  },
  {
    id: 'client 9',
    among: ['registers'],
    what: 'a guarded transaction that was applied is said to have failed: a lease was gone when it was sent again',
    edits: [
      {
        file: 'src/etcd/kv/kv.ts',
        from: "settledBy: areBoundToOneLease(steps) ? ['LEASE_NOT_FOUND'] : [],",
        to: "settledBy: ['LEASE_NOT_FOUND'],",
      },
    ],
    test: 'faults/outcomes "lease is gone when"',
  },
  {
    id: 'client 10',
    what: '10,000 leases on one client: renewals collapse',
    missing: 'it costs processor time, not time of the world',
    test: 'etcd/renewals "ten thousand", unit/due-heap',
  },
  {
    id: 'client 11',
    what: 'a write that has arrived is called failed after RST_STREAM, GOAWAY, ABORTED',
    missing: 'frames: a connection here is whole, or cut',
    test: 'etcd/answers "what comes back"',
  },
  {
    id: 'client 12',
    what: 'scan at revision 0n reads each page at another revision',
    missing: 'nobody scans here',
    test: 'contract/kv "at one revision, too"',
  },
  {
    id: 'client 13',
    what: 'errors do not name their key',
    missing: 'words are not judged',
    test: 'contract/kv "names the key"',
  },
  {
    id: 'client 14',
    what: 'a watch that was closed while it relists goes on reading',
    missing: 'what is sent in vain is not counted',
    test: 'contract/watch-life',
  },
  {
    id: 'client 15',
    what: 'a small value that is kept keeps the whole reply in memory',
    missing: 'memory is not looked at',
    test: 'contract/kv "does not keep the large"',
  },
  {
    id: 'client 16',
    what: 'calls of auth, cluster and maintenance take what does not exist',
    missing: 'arguments are checked before anything is done; nothing of it depends on faults',
    test: 'contract/bad-input-admin',
  },
  {
    id: 'client 17',
    what: 'lease.keepAlive is silent for ever when it cannot go on',
    missing: 'nobody iterates over renewals here',
    test: 'etcd/renewals "cannot go on"',
  },
  {
    id: 'client 18',
    what: 'with auth given and authentication off each call asks for a token first',
    missing: 'what is sent in vain is not counted',
    test: 'contract/connection "authentication is off is asked"',
  },
  {
    id: 'client 19',
    what: 'a watch that is refused breaks the stream of all',
    missing: 'watches that are refused',
    test: 'faults/auth "may not watch"',
  },
];
