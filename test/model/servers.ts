import { type Backend, onBackends } from '../support/backends.js';

/**
 * Models play on a real etcd; in soaks on the embedded server too. In `npm test` the simulation plays what that is made of, and
 * far more of it in the same time.
 */
export function onServers(title: string, define: (backend: Backend) => void): void {
  const isSoak = process.env['CONCLAVE_MODELS'] === 'everywhere';
  onBackends(isSoak ? ['embedded', 'etcd'] : ['etcd'], title, define);
}
