import { fromJSON } from '@grpc/proto-loader';

import { descriptor } from './descriptor.gen.js';
import type { Services } from './messages.gen.js';

/**
 * int64 becomes bigint in both directions. protobufjs (7.5 and later) takes `BigInt` as the type of longs; the option's
 * type in `@grpc/proto-loader` does not name it yet, hence the cast.
 */
const BIGINT = BigInt as unknown as typeof Number;

const definitions = fromJSON(descriptor as Parameters<typeof fromJSON>[0], {
  arrays: true,
  defaults: true,
  enums: String,
  longs: BIGINT,
  oneofs: true,
});

function service<Name extends keyof Services>(name: Name): Services[Name] {
  return definitions[`etcdserverpb.${name}`] as unknown as Services[Name];
}

/** The rpcs of etcd v3, by service and name. */
export const services: Services = {
  Auth: service('Auth'),
  Cluster: service('Cluster'),
  KV: service('KV'),
  Lease: service('Lease'),
  Maintenance: service('Maintenance'),
  Watch: service('Watch'),
};
