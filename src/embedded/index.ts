/** The embedded etcd server (entry point `conclave/embedded`). */
export { EmbeddedServer, type EmbeddedServerOptions } from './embedded-server.js';
export type { AutoCompaction } from './store/auto-compaction.js';
