// npm run sim -- [--minutes N | --seeds N] [--seed N]: plays seeds until the time is over, or one is refused. SEED=N plays one.
import process from 'node:process';
import { parseArgs } from 'node:util';

import { play } from './play.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seed: { default: '1', type: 'string' },
    seeds: { type: 'string' },
  },
});
const one = process.env['SEED'];
const first = Number(one ?? values.seed);
const most = one === undefined ? Number(values.seeds ?? Infinity) : 1;
const untilMs =
  performance.now() + Number(values.minutes ?? (values.seeds === undefined ? 1 : Infinity)) * 60_000;
const faults = new Map<string, number>();
const sum = { events: 0, operations: 0, seeds: 0, simulatedMs: 0 };
const startedAt = performance.now();
let failed = false;
for (let seed = first; sum.seeds < most && performance.now() < untilMs && !failed; seed++) {
  const played = await play({ seed });
  sum.seeds += 1;
  sum.events += played.events;
  sum.operations += played.operations;
  sum.simulatedMs += played.simulatedMs;
  for (const [fault, count] of played.faults) faults.set(fault, (faults.get(fault) ?? 0) + count);
  if (played.violations.length === 0) continue;
  failed = true;
  console.log(`seed ${seed}: SEED=${seed} npm run sim plays it again`);
  for (const { at, message, rule } of played.violations.slice(0, 10)) {
    console.log(`  ${rule}: ${message}`);
    for (const record of at)
      console.log(
        `    ${JSON.stringify(record, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}`,
      );
  }
}
const seconds = (performance.now() - startedAt) / 1000;
console.log(
  `${sum.seeds} seeds in ${seconds.toFixed(1)} s (${((sum.seeds * 60) / seconds).toFixed(0)} a minute), ` +
    `${sum.operations} operations, ${sum.events} events, ${(sum.simulatedMs / 3_600_000).toFixed(2)} simulated hours`,
);
console.log(`faults: ${[...faults].map(([fault, count]) => `${fault} ${count}`).join(', ')}`);
process.exit(failed ? 1 : 0);
