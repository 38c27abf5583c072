/**
 * What the other side reads of a message, without its being written as bytes in between, which was a fifth of the time of a
 * simulated world: absent fields have their defaults, numbers their type, enums their names, as `services.ts` has them read.
 */
import { descriptor } from '../../proto/descriptor.gen.js';

/** What is read of the messages of an rpc. */
export interface Carrier {
  readonly request: Read;
  readonly response: Read;
}

/** A package, a service, a message or an enum, in protobufjs's JSON form. */
export interface Described {
  readonly nested?: Readonly<Record<string, Described>>;
  readonly methods?: Readonly<
    Record<string, { readonly requestType: string; readonly responseType: string }>
  >;
  readonly fields?: Readonly<Record<string, { readonly type: string; readonly rule?: string }>>;
  readonly oneofs?: Readonly<Record<string, { readonly oneof: readonly string[] }>>;
  readonly values?: Readonly<Record<string, number>>;
}

type Message = Record<string, unknown>;
type Read = (value: unknown) => unknown;

/** A value as it is read, and what is read where there is none. */
interface Kind {
  readonly read: Read;
  readonly absent: unknown;
}

/** A field that is there, or not. */
interface Field {
  readonly read: Read;
  readonly isRepeated: boolean;
  /** Of several the one that is there. */
  readonly oneof: string | undefined;
}

/** What is read of a message that says nothing, and what it may say. */
interface Shape {
  readonly empty: Message;
  readonly repeated: string[];
  readonly fields: Map<string, Field>;
}

const [LEAST, MOST] = [-(2n ** 63n), 2n ** 63n - 1n];

const SCALARS: Readonly<Record<string, Kind>> = {
  bool: { absent: false, read: Boolean },
  bytes: { absent: Buffer.alloc(0), read: readBytes },
  int64: { absent: 0n, read: readInt64 },
  string: { absent: '', read: String },
  uint32: { absent: 0, read: (value) => Number(value) >>> 0 },
  uint64: { absent: 0n, read: (value) => BigInt.asUintN(64, readBigInt(value)) },
};

/** How many bytes of keys and values there are in the message that is being read. */
let counted = 0;

const carriers = new Map<string, Carrier>();
const kinds = new Map<Described, Kind>();

/** By an rpc's path. One that is not described carries messages as they are. */
export function carrierOf(path: string): Carrier {
  let carrier = carriers.get(path);
  if (carrier === undefined) {
    carrier = makeCarrier(path);
    carriers.set(path, carrier);
  }
  return carrier;
}

/** Reads a message; tells how many bytes of keys and values it has. */
export function carry(read: Read, message: unknown): { readonly bytes: number; readonly message: unknown } {
  counted = 0;
  return { message: read(message), bytes: counted };
}

function makeCarrier(path: string): Carrier {
  const [, service = '', name = ''] = path.split('/');
  const scope = service.split('.');
  const method = find(scope)?.methods?.[name];
  const reader = (type = ''): Read =>
    method === undefined ? (message) => message : kindOf(type, scope.slice(0, -1)).read;
  return { request: reader(method?.requestType), response: reader(method?.responseType) };
}

function find(names: readonly string[]): Described | undefined {
  return names.reduce<Described | undefined>((at, name) => at?.nested?.[name], descriptor as Described);
}

/** The kind of a type that is named within `scope`. */
function kindOf(type: string, scope: readonly string[]): Kind {
  const scalar = SCALARS[type];
  if (scalar !== undefined) return scalar;
  const names = type.split('.');
  for (let depth = scope.length; depth >= 0; depth--) {
    const full = [...scope.slice(0, depth), ...names];
    const described = find(full);
    if (described === undefined) continue;
    let kind = kinds.get(described);
    if (kind === undefined) {
      kind = described.values === undefined ? messageKind(described, full) : enumKind(described.values);
      kinds.set(described, kind);
    }
    return kind;
  }
  throw new TypeError(`there is no type ${type} in ${scope.join('.')}`);
}

/** By name; a number that has none stays one. */
function enumKind(values: Readonly<Record<string, number>>): Kind {
  const names = new Map(Object.entries(values).map(([name, number]) => [number, name]));
  const absent = names.get(0);
  return {
    absent,
    read: (value) => {
      if (typeof value === 'number') return names.get(value) ?? value;
      return typeof value === 'string' && value in values ? value : absent;
    },
  };
}

/** Its fields are looked at when the first one is read: a type may have itself within. */
function messageKind(described: Described, full: readonly string[]): Kind {
  let shape: Shape | undefined;
  return {
    absent: null,
    read: (value) => readMessage(value as Message, (shape ??= fieldsOf(described, full))),
  };
}

function fieldsOf({ fields = {}, oneofs = {} }: Described, full: readonly string[]): Shape {
  const shape: Shape = { empty: {}, fields: new Map(), repeated: [] };
  for (const [name, { rule, type }] of Object.entries(fields)) {
    const { absent, read } = kindOf(type, full);
    const isRepeated = rule === 'repeated';
    const oneof = Object.keys(oneofs).find((each) => oneofs[each]?.oneof.includes(name));
    if (isRepeated) shape.repeated.push(name);
    if (oneof === undefined) shape.empty[name] = absent;
    shape.fields.set(name, { isRepeated, oneof, read });
  }
  return shape;
}

function readMessage(message: Message, { empty, fields, repeated }: Shape): Message {
  const read = { ...empty };
  for (const name of repeated) read[name] = [];
  for (const name in message) {
    const value = message[name];
    if (value == null) continue;
    const field = fields.get(name);
    if (field === undefined) continue;
    if (field.isRepeated) read[name] = (value as readonly unknown[]).map(field.read);
    else {
      read[name] = field.read(value);
      if (field.oneof !== undefined) read[field.oneof] = name;
    }
  }
  return read;
}

function readBytes(value: unknown): Buffer {
  const read = Buffer.isBuffer(value) ? value : asBuffer(value as string | Uint8Array);
  counted += read.length;
  return read;
}

function asBuffer(value: string | Uint8Array): Buffer {
  if (typeof value === 'string') return Buffer.from(value, 'base64');
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

function readInt64(value: unknown): bigint {
  const read = readBigInt(value);
  return read < LEAST || read > MOST ? BigInt.asIntN(64, read) : read;
}

function readBigInt(value: unknown): bigint {
  return typeof value === 'bigint' ? value : BigInt(value as number | string);
}
