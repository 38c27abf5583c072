// Users, roles and TLS: an etcd that takes nobody's word. It is one of this step's own, for it changes who may do what.
import { Client, ConclaveError } from 'conclave';
import { startEtcd } from 'conclave/testing';

const rootPassword = 'a root password';
await using etcd = await startEtcd({ auth: { rootPassword }, tls: true });
const { endpoints } = etcd;
// Certificates made for this etcd; with an etcd of your own these are files: { caFile: '/etc/etcd/ca.pem' }.
const tls = { ca: etcd.tls?.ca };

async function attempt(what: string, call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
    console.log(`${what}: done`);
  } catch (error) {
    if (!(error instanceof ConclaveError)) throw error;
    console.log(`${what}: ${error.code}`);
  }
}

// The administrator makes a role that may read and write below app/, and a user who has it.
const root = new Client({ auth: { password: rootPassword, username: 'root' }, endpoints, tls });
await root.auth.roleAdd('app');
await root.auth.roleGrantPermission('app', 'readwrite', { prefix: 'app/' });
await root.auth.userAdd('worker', 'a password');
await root.auth.userGrantRole('worker', 'app');
console.log(
  `users: ${(await root.auth.userList()).join(' ')}; roles: ${(await root.auth.roleList()).join(' ')}`,
);

const worker = new Client({ auth: { password: 'a password', username: 'worker' }, endpoints, tls });
await attempt('the worker writes below app/', () => worker.kv.put('app/x', '1'));
await attempt('the worker writes elsewhere', () => worker.kv.put('other/x', '1'));

const wrong = new Client({ auth: { password: 'guessed', username: 'worker' }, endpoints, tls });
await attempt('a wrong password', () => wrong.kv.get('app/x'));
const anonymous = new Client({ endpoints, tls });
await attempt('without a user', () => anonymous.kv.get('app/x'));
const trustful = new Client({ endpoints, tls: { ca: etcd.strangerTls?.ca } });
await attempt('a certificate of an authority we do not trust', () => trustful.kv.get('app/x'));

await root.auth.userRevokeRole('worker', 'app');
await attempt('the worker, when its role is taken away', () => worker.kv.put('app/x', '2'));
for (const client of [root, worker, wrong, anonymous, trustful]) await client.close();
