/** `conclave/keys`: etcd v2's KeysAPI on etcd v3 (docs/keys.md). */
export { KeysAPI } from './keys-api.js';
export type { KeysAPIOptions } from './keys-api.js';
export { KeysError } from './keys-error.js';
export type { KeysErrorCode } from './keys-error.js';
export type { KeysAction, KeysNode } from './node.js';
export type {
  KeysCallOptions,
  KeysCreateOptions,
  KeysDeleteOptions,
  KeysGetOptions,
  KeysResponse,
  KeysSetOptions,
  KeysUpdateOptions,
  KeysWatcherOptions,
} from './options.js';
export type { KeysWatcher } from './watcher.js';
