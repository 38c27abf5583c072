// Fails on any import in src/ that ARCHITECTURE.md's floors do not allow, and on any loop of imports between files.
// Prints each with its file and line. Type-only imports count too: who reads a file has to read what it names.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import ts from 'typescript';
import { top } from './lib/steps.mjs';

const TOP_FLOOR = ['mutex', 'election', 'barrier', 'queue', 'stm', 'discovery', 'keys'];
const CLIENT_SIDE = ['errors', 'util', 'etcd', 'session', 'ticket', 'leased', 'leasing'];

/** Every room, and what it may import besides itself. `index` is src/index.ts. */
const ALLOWED = {
  errors: [],
  proto: [],
  util: ['errors'],
  etcd: ['errors', 'util', 'proto'],
  session: ['errors', 'util', 'etcd'],
  ticket: ['errors', 'util', 'etcd', 'session'],
  leased: ['errors', 'util', 'etcd', 'session', 'ticket'],
  leasing: ['errors', 'util', 'etcd', 'session'],
  ...Object.fromEntries(TOP_FLOOR.map((room) => [room, CLIENT_SIDE])),
  connect: [...CLIENT_SIDE, ...TOP_FLOOR],
  index: [...CLIENT_SIDE, ...TOP_FLOOR, 'connect'],
  look: [...CLIENT_SIDE, ...TOP_FLOOR],
  otel: ['errors', 'util'],
  embedded: ['errors', 'util', 'proto'],
  testing: [...CLIENT_SIDE, ...TOP_FLOOR, 'connect', 'proto', 'embedded', 'index'],
  cli: [...CLIENT_SIDE, ...TOP_FLOOR, 'look', 'connect', 'proto', 'embedded', 'testing', 'index'],
};
/** The rooms inside a large room, floor by floor, the lowest first; files beside them stand above all of them. */
const INNER = {
  etcd: [['transport'], ['kv'], ['lease', 'watch', 'admin'], ['cache', 'mirror', 'namespace', 'ordering']],
  queue: [['store'], ['produce'], ['upkeep'], ['consume'], ['inspect']],
  embedded: [['rpc'], ['store'], ['lease', 'watch'], ['kv']],
};
const GRPC_ROOMS = ['etcd', 'embedded', 'testing', 'proto'];

const srcDir = path.join(top, 'src');
const { dependencies = {}, peerDependencies = {} } = JSON.parse(
  readFileSync(path.join(top, 'package.json'), 'utf8'),
);
const problems = [];

/** `src/index.ts` is a room of its own; any other file belongs to the folder it is in. */
function roomOf(file) {
  const [first, ...rest] = file.split('/');
  return rest.length === 0 ? first.replace(/\.ts$/, '') : first;
}

/** Every module a file names: import, export … from, import(), import types. */
function importsOf(file) {
  const text = readFileSync(path.join(srcDir, file), 'utf8');
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found = [];
  const note = (node) => {
    if (node !== undefined && ts.isStringLiteralLike(node)) {
      found.push({ name: node.text, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1 });
    }
  };
  const visit = (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) note(node.moduleSpecifier);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) note(node.argument.literal);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      note(node.arguments[0]);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function checkPackage(room, name) {
  if (name.startsWith('node:')) return undefined;
  const owner = name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/');
  if (name.startsWith('#') || owner === 'conclave') return 'src/ names its own files by relative path';
  if (!(owner in dependencies) && !(owner in peerDependencies))
    return `${owner} is not a dependency in package.json`;
  if (owner.startsWith('@grpc/') && !GRPC_ROOMS.includes(room)) return `${room} may not name gRPC`;
  return undefined;
}

/** Inside one large room: down, or within one inner room. */
function checkInner(room, file, target) {
  const floors = INNER[room];
  if (floors === undefined) return undefined;
  const place = (name) => {
    const [, inner, ...rest] = name.split('/');
    const floor = floors.findIndex((rooms) => rooms.includes(inner));
    return { inner: rest.length === 0 ? undefined : inner, floor: rest.length === 0 ? floors.length : floor };
  };
  const [from, to] = [place(file), place(target)];
  if (from.floor < 0) return `${room}/${from.inner} has no floor: add it to scripts/check-arrows.mjs`;
  if (from.inner === to.inner || to.floor < from.floor) return undefined;
  return `${room}/${from.inner ?? ''} may not import ${room}/${to.inner ?? target.split('/').at(-1)}`;
}

function checkFile(room, file, target, files) {
  if (!files.has(target)) return `no such file in src/: ${target}`;
  const to = roomOf(target);
  if (to === room) return checkInner(room, file, target);
  if (ALLOWED[room].includes(to)) return undefined;
  return `${room} may not import ${to}`;
}

/** The files below each file, and a problem for each arrow that is not allowed. */
function readArrows(files) {
  const arrows = new Map();
  for (const file of files) {
    const room = roomOf(file);
    const targets = [];
    arrows.set(file, targets);
    if (ALLOWED[room] === undefined) {
      problems.push(
        `src/${file}: the room "${room}" has no floor: add it to scripts/check-arrows.mjs and ARCHITECTURE.md`,
      );
      continue;
    }
    for (const { name, line } of importsOf(file)) {
      const local = name.startsWith('.');
      const target = path.posix.join(path.posix.dirname(file), name).replace(/\.js$/, '.ts');
      if (local) targets.push({ target, line });
      const problem = local ? checkFile(room, file, target, files) : checkPackage(room, name);
      if (problem !== undefined) problems.push(`src/${file}:${line}: ${problem} (${name})`);
    }
  }
  return arrows;
}

/** Depth-first; a file met again while it is still open closes a loop. */
function findLoops(arrows) {
  const done = new Set();
  const trail = [];
  const visit = (file) => {
    trail.push(file);
    for (const { target, line } of arrows.get(file) ?? []) {
      const at = trail.indexOf(target);
      if (at >= 0)
        problems.push(`src/${file}:${line}: import loop: ${[...trail.slice(at), target].join(' > ')}`);
      else if (!done.has(target)) visit(target);
    }
    trail.pop();
    done.add(file);
  };
  for (const file of arrows.keys()) if (!done.has(file)) visit(file);
}

const files = new Set(
  readdirSync(srcDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => path.relative(srcDir, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'))
    .sort(),
);
findLoops(readArrows(files));
for (const problem of problems) console.error(problem);
process.exit(problems.length > 0 ? 1 : 0);
