// npm run soak:life: see scripts/soak-life.mjs.
import { live } from './life.js';

const [seconds, seed] = process.argv.slice(2).map(Number);
console.log(`seed ${seed}`);
const life = await live({ log: console.log, seconds: seconds ?? 600, seed: seed ?? 1 });
const { first, last } = life.heap;
const growth = first === undefined || last === undefined ? undefined : Number((last / first).toFixed(2));
console.log(JSON.stringify({ seed, seconds, ...life, growth }));
const isLeaking = growth !== undefined && growth > 1.1;
process.exitCode = life.findings.length > 0 || isLeaking ? 1 : 0;
