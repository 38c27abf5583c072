import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { Client, Mutex, Session } from 'conclave';
import { EmbeddedServer } from 'conclave/embedded';

@Injectable()
class Reports implements OnModuleDestroy {
  constructor(
    private readonly client: Client,
    private readonly session: Session,
  ) {}

  build(): Promise<string> {
    return new Mutex(this.session, 'reports').run((lock) => Promise.resolve(typeof lock.fencingToken));
  }

  async onModuleDestroy(): Promise<void> {
    await this.session.close();
    await this.client.close();
  }
}

test('a provider takes a lock', async () => {
  const server = await EmbeddedServer.start({ port: 0 });
  const client = new Client({ endpoints: [server.endpoint] });
  const module = await Test.createTestingModule({
    providers: [
      { provide: Client, useValue: client },
      { provide: Session, useFactory: () => Session.open(client, { ttlSeconds: 5 }) },
      Reports,
    ],
  }).compile();
  await module.init();
  expect(await module.get(Reports).build()).toBe('bigint');
  await module.close();
  await server.close();
});
