// What every resolution of TypeScript has to find, with the names of design and no `any`.
import { Client, ConclaveError, Election, Mutex, Session, compare, hasCode, op, type Lock } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';
import { ManualClock, startEtcd } from 'conclave/testing';

export async function use(lock: Lock): Promise<bigint> {
  const server: EmbeddedServer = await EmbeddedServer.start({ port: 0 });
  const client = new Client({ endpoints: [server.endpoint] });
  const session = await Session.open(client, { ttlSeconds: 10 });
  await new Election(session, 'e').campaign('me');
  const kv = await client.kv.get('a');
  await lock.txn({ if: [compare.exists('a')], then: [op.put('a', 'b')] });
  // @ts-expect-error: a name that is not there is a mistake, so the declarations were found.
  void session.nothingOfTheKind;
  // @ts-expect-error: what only our own rooms use is not declared.
  void session.leaseIsGone;
  return (kv?.modRevision ?? new Mutex(session, 'm').name.length === 1) ? 1n : lock.fencingToken;
}
export const others = [ConclaveError, ManualClock, startEtcd, hasCode] as const;
