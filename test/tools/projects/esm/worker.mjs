// The program in a thread of its own.
import { Worker } from 'node:worker_threads';

new Worker(new URL('use.mjs', import.meta.url));
