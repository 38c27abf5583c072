/** What the commands that look into a store share: their options, their server, and how they end. */
import { hasCode } from '../../errors/conclave-error.js';
import { Client } from '../../etcd/client.js';
import { CONNECT_FLAGS, explain, readTarget, type Target } from '../connect.js';
import { EXIT } from '../exit-codes.js';
import { assertReachable } from '../reach.js';
import { Interrupted, Interruption } from '../signals.js';
import { COMMON_FLAGS, type Flag, type Page, readArgs, type Typed, UsageError } from '../usage.js';

/** The options of every command that looks. */
export const LOOK_FLAGS = {
  json: { help: 'print JSON' },
  ...CONNECT_FLAGS,
  ...COMMON_FLAGS,
} as const satisfies Record<string, Flag>;

export type LookFlag = keyof typeof LOOK_FLAGS;

/** The help page's last lines. */
export const LOOK_NOTES = `Each option of this command's own may be set in the environment, too: CONCLAVE_COMMAND_OPTION, such as
CONCLAVE_LS_KIND=lock; for one without a value any but an empty text, 0 and false.

Exit codes: 0; ${EXIT.no} the answer is no (docs/cli.md); ${EXIT.usage} bad usage; ${EXIT.server} no server answers or it refuses us.`;

type Env = Readonly<Record<string, string | undefined>>;

/** Reads what was typed, and for what was not typed the environment: `CONCLAVE_LS_KIND` for `ls --kind`. */
export function readLookArgs<Name extends string>(
  page: Page<Name>,
  argv: readonly string[],
  env: Env = process.env,
): Typed<Name> {
  const typed = readArgs(page, argv);
  if (typed.command !== undefined) throw new UsageError(`${page.name} takes no command after "--"`);
  const own = Object.entries<Flag>(page.flags).filter(
    ([name]) => !(name in CONNECT_FLAGS) && !(name in COMMON_FLAGS),
  );
  const given = own.flatMap(([name, flag]) => {
    const value = env[`CONCLAVE_${page.name}_${name}`.toUpperCase().replaceAll('-', '_')] ?? '';
    const isTyped = typed.has(name as Name) || typed.text(name as Name) !== undefined;
    if (value === '' || isTyped) return [];
    if (flag.value !== undefined) return [`--${name}=${value}`];
    return value === '0' || value === 'false' ? [] : [`--${name}`];
  });
  return given.length === 0 ? typed : readArgs(page, [...given, ...argv]);
}

/** The one name that a command is about. */
export function readName(page: Page, typed: Typed): string {
  const [name, surplus] = typed.positionals;
  if (name === undefined || name === '') {
    throw new UsageError(`a name is missing: conclave ${page.usage[0] ?? page.name}`);
  }
  if (surplus !== undefined)
    throw new UsageError(`${page.name} takes one name, not ${JSON.stringify(surplus)}, too`);
  return name;
}

/** How often it is read anew when history is compacted under it. */
const TRIES = 5;

/**
 * Connects, and resolves with the exit code that `look` gives. What goes wrong with the server is said in one line. When
 * its revision was compacted while `look` read, it is run again: it must print nothing before it has read all.
 */
export async function looking(
  verb: string,
  typed: Typed<LookFlag>,
  look: (client: Client, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const target: Target = readTarget(typed);
  using interrupt = new Interruption();
  const client = new Client(target);
  try {
    await assertReachable(target);
    for (let tries = 1; ; tries++) {
      try {
        return await look(client, interrupt.signal);
      } catch (error) {
        if (tries === TRIES || !hasCode(error, 'COMPACTED')) throw error;
      }
    }
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode;
    if (!hasCode(error)) throw error;
    console.error(`conclave ${verb}: ${explain(error, target)}`);
    return EXIT.server;
  } finally {
    await client.close();
  }
}

/** Prints text of many lines; resolves once it is written, so that nothing of it is lost when the process ends. */
export async function print(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(`${text}\n`, () => resolve()));
}
