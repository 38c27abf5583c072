import { fromJSON } from '@grpc/proto-loader';

import { descriptor } from './descriptor.gen.js';
import type { Services } from './messages.gen.js';
import { deepTxn, flattened } from './nested-txn.js';

/**
 * int64 becomes bigint in both directions. protobufjs (7.5 and later) takes `BigInt` as the type of longs; the option's
 * type in `@grpc/proto-loader` does not name it yet, hence the cast.
 */
const BIGINT = BigInt as unknown as typeof Number;

type Definitions = Readonly<Record<string, unknown>>;

let loaded: Definitions | undefined;

/** The descriptors take longer to load than all the rest of the package, so they are when the first call needs them. */
function definitions(): Definitions {
  loaded ??= fromJSON(flattened(descriptor) as Parameters<typeof fromJSON>[0], {
    arrays: true,
    defaults: true,
    enums: String,
    longs: BIGINT,
    oneofs: true,
  });
  return loaded;
}

function service<Name extends keyof Services>(name: Name): Services[Name] {
  return definitions()[`etcdserverpb.${name}`] as Services[Name];
}

let kv: Services['KV'] | undefined;

function kvService(): Services['KV'] {
  if (kv === undefined) {
    const flat = service('KV');
    kv = { ...flat, Txn: deepTxn(flat.Txn) };
  }
  return kv;
}

/** The rpcs of etcd v3, by service and name. */
export const services: Services = {
  get Auth() {
    return service('Auth');
  },
  get Cluster() {
    return service('Cluster');
  },
  get KV() {
    return kvService();
  },
  get Lease() {
    return service('Lease');
  },
  get Maintenance() {
    return service('Maintenance');
  },
  get Watch() {
    return service('Watch');
  },
};
