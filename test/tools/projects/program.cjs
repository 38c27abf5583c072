// Uses every entry point and resolves with one line. Bundlers, loaders and test tools get it as it is.
exports.program = async ({ Client, Mutex, Session, hasCode }, { EmbeddedServer }, { ManualClock }) => {
  const server = await EmbeddedServer.start({ port: 0 });
  const client = new Client({ endpoints: [server.endpoint] });
  const session = await Session.open(client, { ttlSeconds: 5 });
  const mutex = new Mutex(session, 'packed');
  const lock = await mutex.lock();
  const life = await client.lease.timeToLive(session.leaseId);
  const refused = await client.kv.get('').catch((error) => error);
  await lock.unlock();
  await session.close();
  await client.close();
  await server.close();
  const late = await mutex.tryLock().catch((error) => error);
  return [
    typeof lock.fencingToken,
    life.id === session.leaseId,
    new ManualClock().now(),
    refused.name,
    hasCode(late, late.code),
  ].join(' ');
};
