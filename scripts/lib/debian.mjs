// What the scripts that need a program share: looking for it, and getting it from Debian's packages. Nothing here starts,
// stops or configures anything of the machine.
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { top } from './steps.mjs';

const build = path.join(top, 'build');

export function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export function isOnPath(name) {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return folders.some((folder) => folder !== '' && isExecutable(path.join(folder, name)));
}

/** Whether packages can be fetched and unpacked here, which takes no rights. */
export function isDebian() {
  return isOnPath('apt-get') && isOnPath('dpkg');
}

/** Whether packages can be installed here. */
export function isRootOnDebian() {
  if (!isDebian()) return false;
  return process.getuid() === 0 || !quietly('sudo', ['-n', 'true']).failed;
}

/** Runs a command to its end; its output is for the case that it fails. */
function quietly(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', ...options });
  const failed = result.error !== undefined || result.status !== 0;
  return { failed, output: result.error?.message ?? `${result.stdout}${result.stderr}` };
}

/**
 * Calls `get` with apt's options: first for the machine's own package lists; when these are missing or too old for it,
 * for new ones, which are fetched from the machine's sources into `folder`.
 */
function withLists(folder, get) {
  const first = get([]);
  if (!first.failed) return first;
  const lists = path.join(folder, 'lists');
  const cache = path.join(folder, 'cache');
  mkdirSync(path.join(lists, 'partial'), { recursive: true });
  mkdirSync(path.join(cache, 'archives/partial'), { recursive: true });
  const own = ['-o', `Dir::State::lists=${lists}`, '-o', `Dir::Cache=${cache}`, '-o', 'APT::Sandbox::User='];
  const update = quietly('apt-get', [...own, 'update']);
  return update.failed ? update : get(own);
}

/** Calls `use` with a new folder below build/, which is removed after it. */
function withFolder(use) {
  mkdirSync(build, { recursive: true });
  const folder = mkdtempSync(path.join(build, 'apt-'));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { force: true, recursive: true });
  }
}

/**
 * Fetches one of Debian's packages and unpacks it to `target`, without installing it: no root, no service, no trace
 * outside. Whoever is interrupted leaves at most a folder build/apt-*.
 */
export function unpack(name, target) {
  return withFolder((folder) => {
    const fetched = withLists(folder, (options) =>
      quietly('apt-get', [...options, '-o', 'APT::Sandbox::User=', 'download', name], { cwd: folder }),
    );
    if (fetched.failed) return fetched;
    const file = readdirSync(folder).find((each) => each.endsWith('.deb'));
    if (file === undefined) return { failed: true, output: `apt-get download ${name} brought no package` };
    const content = path.join(folder, 'content');
    const unpacked = quietly('dpkg', ['-x', path.join(folder, file), content]);
    if (unpacked.failed) return unpacked;
    mkdirSync(path.dirname(target), { recursive: true });
    // At once and whole, so that nobody ever finds half of it. If somebody else was faster, theirs is as good.
    if (!existsSync(target)) renameSync(content, target);
    return unpacked;
  });
}

/** Installs packages, as root; never at the cost of another one. */
export function install(packages) {
  const asRoot = process.getuid() === 0 ? [] : ['sudo', '-n'];
  const [command, ...args] = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get'];
  const what = ['install', '-y', '--no-install-recommends', '--no-upgrade', '--no-remove', ...packages];
  return withFolder((folder) =>
    withLists(folder, (options) => quietly(command, [...args, ...options, ...what])),
  );
}
