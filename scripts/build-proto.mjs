// Turns proto/*.proto and the package's version into generated modules, so that no file is looked for at run time:
//   src/proto/descriptor.gen.ts   the descriptors as data, loaded through @grpc/proto-loader
//   src/proto/version.gen.ts      the version
//   src/proto/messages.gen.ts     the TypeScript shape of every message (int64 as bigint) and of every rpc
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import protobuf from 'protobufjs';

const top = fileURLToPath(new URL('..', import.meta.url));
const protoDir = path.join(top, 'proto');
const outDir = path.join(top, 'src/proto');

const root = new protobuf.Root();
root.resolvePath = (_origin, target) => (path.isAbsolute(target) ? target : path.join(protoDir, target));
const files = (await readdir(protoDir)).filter((file) => file.endsWith('.proto')).sort();
root.loadSync(files.map((file) => path.join(protoDir, file)));
root.resolveAll();

const scalars = {
  bool: 'boolean',
  bytes: ['Buffer', 'Uint8Array'],
  double: 'number',
  int32: 'number',
  int64: 'bigint',
  string: 'string',
  uint32: 'number',
  uint64: 'bigint',
};

/** The TypeScript name of a message or enum: nested names are joined, the package is left out. */
function nameOf(type) {
  return type.parent instanceof protobuf.Type ? nameOf(type.parent) + type.name : type.name;
}

function fieldType(field, input) {
  const type = field.resolvedType;
  if (type instanceof protobuf.Enum) return nameOf(type);
  if (type !== null) return input ? `${nameOf(type)}Input` : nameOf(type);
  const scalar = scalars[field.type];
  if (scalar === undefined) throw new Error(`no TypeScript type for ${field.type}`);
  return Array.isArray(scalar) ? scalar[input ? 1 : 0] : scalar;
}

function messageText(type) {
  const decoded = [];
  const input = [];
  for (const field of type.fieldsArray) {
    const plain = fieldType(field, false);
    const inOneof = field.partOf !== null && field.partOf !== undefined;
    const absent = inOneof ? '?' : '';
    const nullable =
      field.resolvedType instanceof protobuf.Type && !field.repeated && !inOneof ? ' | null' : '';
    decoded.push(`  ${field.name}${absent}: ${plain}${field.repeated ? '[]' : nullable};`);
    const repeated = field.repeated ? 'readonly ' : '';
    const wanted = fieldType(field, true);
    input.push(`  ${field.name}?: ${repeated}${wanted}${field.repeated ? '[]' : ''}${nullable} | undefined;`);
  }
  for (const oneof of type.oneofsArray) {
    decoded.push(`  ${oneof.name}?: ${oneof.fieldsArray.map((f) => `'${f.name}'`).join(' | ')};`);
  }
  const name = nameOf(type);
  const body = (lines) => (lines.length === 0 ? '' : `\n${lines.join('\n')}\n`);
  return [
    `/** ${type.fullName.slice(1)} as decoded: every field is there. */`,
    `export interface ${name} {${body(decoded)}}`,
    `/** ${type.fullName.slice(1)} as given to the encoder: absent fields take their default. */`,
    `export interface ${name}Input {${body(input)}}`,
    '',
  ].join('\n');
}

function enumText(type) {
  const names = Object.keys(type.values).map((name) => `'${name}'`);
  return `export type ${nameOf(type)} = ${names.join(' | ')};\n`;
}

function serviceText(service) {
  const lines = service.methodsArray.map((method) => {
    const request = nameOf(method.resolvedRequestType);
    const response = nameOf(method.resolvedResponseType);
    return `  ${method.name}: Rpc<${request}Input, ${request}, ${response}Input, ${response}>;`;
  });
  return `  ${service.name}: {\n  ${lines.join('\n  ')}\n  };`;
}

const types = [];
const services = [];
function walk(namespace) {
  for (const item of namespace.nestedArray) {
    if (item instanceof protobuf.Enum) types.push(enumText(item));
    else if (item instanceof protobuf.Type) types.push(messageText(item));
    else if (item instanceof protobuf.Service) services.push(serviceText(item));
    if (item instanceof protobuf.Namespace && !(item instanceof protobuf.Service)) walk(item);
  }
}
walk(root);

const banner = '// Generated from proto/*.proto by scripts/build-proto.mjs. Do not edit.\n';
const messages = [
  banner,
  `import type { Rpc } from './rpc.js';\n`,
  ...types,
  `/** Every rpc, by service and name. */\nexport interface Services {\n${services.join('\n')}\n}\n`,
].join('\n');
const descriptor = `${banner}
/** The descriptors of proto/*.proto, in protobufjs's JSON form. */
export const descriptor: { readonly nested: Readonly<Record<string, unknown>> } = ${JSON.stringify(root.toJSON(), null, 1)};
`;

async function writeIfChanged(file, text) {
  const old = await readFile(file, 'utf8').catch(() => undefined);
  if (old !== text) await writeFile(file, text);
}

await mkdir(outDir, { recursive: true });
await writeIfChanged(path.join(outDir, 'messages.gen.ts'), messages);
await writeIfChanged(path.join(outDir, 'descriptor.gen.ts'), descriptor);
const { version } = JSON.parse(await readFile(path.join(top, 'package.json'), 'utf8'));
await writeIfChanged(
  path.join(outDir, 'version.gen.ts'),
  `// Generated from package.json by scripts/build-proto.mjs. Do not edit.\n/** The package's version. */\nexport const version = '${version}';\n`,
);
