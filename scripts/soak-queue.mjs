// npm run soak:queue [-- JOBS]: the queue's fleet test with 20,000 jobs (or as many as said), which takes a minute or two.
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { top } from './lib/steps.mjs';

const jobs = process.argv[2] ?? '20000';
const result = spawnSync(process.execPath, ['scripts/test.mjs', 'test/queue/fleet'], {
  cwd: top,
  env: { ...process.env, CONCLAVE_QUEUE_JOBS: jobs },
  stdio: 'inherit',
});
process.exit(result.status ?? 1);
