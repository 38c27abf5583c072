import { EmbeddedServer } from '../../embedded/index.js';
import { hasCode } from '../../errors/conclave-error.js';
import { systemClock } from '../../util/clock.js';
import { CONNECT_FLAGS, explain, namesEndpoints, readTarget, type Target } from '../connect.js';
import { EXIT } from '../exit-codes.js';
import { Interrupted, Interruption } from '../signals.js';
import { COMMON_FLAGS, type Flag, type Page, readArgs, UsageError } from '../usage.js';
import { type Outcome, supervise } from './supervisor.js';
import { LOSSES } from './verdict.js';
import { LineView, makeView } from './view.js';

const FLAGS = {
  json: { help: 'make the last line one JSON object' },
  ttl: { value: 'SECONDS', help: "the workers' sessions, whole seconds from 1 to 5 (default 2)" },
  ...CONNECT_FLAGS,
  endpoints: { value: 'A,B', help: 'use this etcd instead of a server in this process' },
  ...COMMON_FLAGS,
} as const satisfies Record<string, Flag>;

export const DEMO_PAGE: Page<keyof typeof FLAGS> = {
  name: 'demo',
  usage: ['demo [--json] [--endpoints A,B [TLS and user options]] [--ttl SECONDS]'],
  about: `Five worker processes elect a leader, which writes numbered records guarded by its leadership, and pushes a job with
each, which any worker takes. The supervisor kills a leader, freezes the next past its lease and wakes it, and asks
the third to resign. In the end it checks the store against what the workers reported: no two terms at once, no
record lost, no late write accepted, every job done, and done once.
It takes about 20 seconds and leaves nothing behind.`,
  flags: FLAGS,
  notes: `A handover is measured from the kill, the stop or the order to resign until the next leader's first record is in
the store. Exit codes: 0 all well, 1 something was violated, 64 bad usage, 69 no server answers or it refuses us.`,
};

/** `conclave demo`. Resolves with the exit code. */
export async function demo(argv: readonly string[]): Promise<number> {
  const typed = readArgs(DEMO_PAGE, argv);
  const [surplus] = [...typed.positionals, ...(typed.command ?? [])];
  if (surplus !== undefined) throw new UsageError(`demo takes no ${JSON.stringify(surplus)}`);
  const ttlSeconds = typed.whole('ttl', 1, 5) ?? 2;
  const json = typed.has('json');
  const named = namesEndpoints(typed) ? readTarget(typed) : undefined;
  using interrupt = new Interruption();
  await using server = named === undefined ? await EmbeddedServer.start() : undefined;
  const target: Target = named ?? { endpoints: server === undefined ? [] : [server.endpoint] };
  try {
    const outcome = await supervise({
      signal: interrupt.signal,
      target,
      ttlSeconds,
      view: (journal) =>
        json ? new LineView(process.stdout, systemClock) : makeView(process.stdout, systemClock, journal),
    });
    console.log(summary(outcome));
    if (json) console.log(JSON.stringify(figures(outcome, named === undefined ? 'embedded' : 'etcd')));
    return outcome.verdict.ok ? EXIT.ok : EXIT.no;
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode;
    if (!hasCode(error)) throw error;
    console.error(`conclave demo: ${explain(error, target)}`);
    return EXIT.server;
  }
}

/** What `--json` prints; a handover that was not seen is null. */
function figures({ verdict, handoverMs }: Outcome, server: 'embedded' | 'etcd'): object {
  const { ok, terms, records, overlaps, lostRecords, staleWritesAccepted, staleWritesRejected } = verdict;
  const { jobs, jobsLost, jobsTwice } = verdict;
  const measured = Object.fromEntries(LOSSES.map((loss) => [loss, handoverMs[loss] ?? null]));
  return {
    ok,
    terms,
    records,
    overlaps,
    lostRecords,
    staleWritesAccepted,
    staleWritesRejected,
    handoverMs: measured,
    jobs,
    jobsLost,
    jobsTwice,
    server,
  };
}

function summary({ verdict, handoverMs }: Outcome): string {
  const measured = LOSSES.map((loss) => `${loss} ${handoverMs[loss] ?? '-'} ms`).join(', ');
  return [
    '',
    `${verdict.terms} terms, ${verdict.records} records; handovers: ${measured}`,
    `terms at the same time: ${verdict.overlaps}; records lost: ${verdict.lostRecords}`,
    `late writes accepted: ${verdict.staleWritesAccepted}; late writes rejected: ${verdict.staleWritesRejected}`,
    `jobs: ${verdict.jobs}; lost: ${verdict.jobsLost}; done twice: ${verdict.jobsTwice}`,
    ...verdict.problems.map((problem) => `VIOLATED: ${problem}`),
    verdict.ok ? 'all as promised' : 'NOT as promised',
  ].join('\n');
}
