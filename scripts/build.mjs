// Builds dist/ from src/ (and the generated half of src/proto from proto/), installing what is missing first.
import { ensureInstalled, run } from './lib/steps.mjs';

ensureInstalled();
run('node', ['scripts/build-proto.mjs']);
run('node', ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']);
