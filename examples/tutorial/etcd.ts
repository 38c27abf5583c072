/** The etcd that the steps use: the one that CONCLAVE_ENDPOINTS names, else three members of our own. */
import { startEtcd } from 'conclave/testing';

/** Where its members listen. Members of our own end with this process. */
export async function etcdEndpoints(): Promise<readonly string[]> {
  const given = process.env['CONCLAVE_ENDPOINTS'];
  return given === undefined ? (await startEtcd({ members: 3 })).endpoints : given.split(',');
}
