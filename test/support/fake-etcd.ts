/** An etcd that answers as a test says: for what no real one can be made to do. */
import type { TestContext } from 'node:test';
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServerDuplexStream,
  type ServerWritableStream,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { services } from '#conclave/proto/services.js';

/** What is played of etcd's services: handlers as grpc-js takes them, by service and rpc. */
export type Parts = {
  readonly [Service in keyof typeof services]?: Readonly<Record<string, UntypedHandleCall>>;
};

/** A stream of answers to one request. */
export type Answers<Request, Reply> = ServerWritableStream<Request, Reply>;
/** A stream of requests and answers. */
export type Talk<Request, Reply> = ServerDuplexStream<Request, Reply>;

/** Starts one, until the test ends; resolves with its endpoint. What is not played answers UNIMPLEMENTED. */
export async function startFakeEtcd(t: TestContext, parts: Parts): Promise<string> {
  const server = new Server();
  for (const [name, handlers] of Object.entries(parts)) {
    const definition = services[name as keyof typeof services] as unknown as ServiceDefinition;
    server.addService(definition, handlers);
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  t.after(() => server.forceShutdown());
  return `http://127.0.0.1:${port}`;
}
