// npm run soak:queue [-- JOBS]: the queue's fleet test with 20,000 jobs (or as many as said), which takes some minutes.
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { ensureEtcd } from './ensure-etcd.mjs';
import { buildTests } from './lib/build.mjs';
import { top } from './lib/steps.mjs';

buildTests();
ensureEtcd();
const args = ['--no-warnings', '--test', '--test-reporter=spec', 'build/test/queue/fleet.test.js'];
const result = spawnSync(process.execPath, args, {
  cwd: top,
  env: { ...process.env, CONCLAVE_QUEUE_JOBS: process.argv[2] ?? '20000' },
  stdio: 'inherit',
});
process.exit(result.status ?? 1);
