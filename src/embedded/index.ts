/** The embedded etcd server (entry point `conclave/embedded`). */
export { EmbeddedServer, type EmbeddedServerOptions } from './embedded-server.js';
