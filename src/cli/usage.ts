import { parseArgs } from 'node:util';

/** What was typed cannot be done: one line that names the value and says what to do. Exit code 64. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The help page was asked for. */
export class HelpRequest extends Error {
  override readonly name = 'HelpRequest';
}

/** One option of a command. */
export interface Flag {
  /** Its value's name in the help; absent: the option takes none. */
  readonly value?: string;
  readonly short?: string;
  readonly help: string;
}

/** A command as its help page shows it. */
export interface Page<Name extends string = string> {
  /** As typed after `conclave`. */
  readonly name: string;
  /** The lines after "Usage:". */
  readonly usage: readonly string[];
  readonly about: string;
  readonly flags: Readonly<Record<Name, Flag>>;
  /** Printed below the options. */
  readonly notes?: string;
}

/** The options every command has. */
export const COMMON_FLAGS = {
  help: { short: 'h', help: 'print this page' },
} as const satisfies Record<string, Flag>;

/** What was typed after a command's name. */
export interface Typed<Name extends string = string> {
  readonly positionals: readonly string[];
  /** What follows "--"; undefined without one. */
  readonly command: readonly string[] | undefined;
  has(name: Name): boolean;
  text(name: Name): string | undefined;
  /** A number from `least` on, which may have a fraction. */
  seconds(name: Name, least: number): number | undefined;
  /** A whole number. */
  whole(name: Name, least: number, most: number): number | undefined;
}

const DECIMAL = /^(\d+\.?\d*|\.\d+)(e\+?\d+)?$/i;

/** Reads what was typed. Throws UsageError for an option that does not exist or lacks its value, HelpRequest for --help. */
export function readArgs<Name extends string>(page: Page<Name>, argv: readonly string[]): Typed<Name> {
  checkBytes(argv);
  const end = argv.indexOf('--');
  const own = end < 0 ? argv : argv.slice(0, end);
  const { values, positionals } = parse(page, own);
  if (values['help'] === true) throw new HelpRequest();
  const text = (name: Name): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const number = (name: Name, least: number): number | undefined => {
    const typed = text(name);
    if (typed === undefined) return undefined;
    const value = DECIMAL.test(typed) ? Number(typed) : NaN;
    if (Number.isFinite(value) && value >= least) return value;
    throw new UsageError(`--${name} must be a number >= ${least}, not ${JSON.stringify(typed)}`);
  };
  return {
    command: end < 0 ? undefined : argv.slice(end + 1),
    has: (name) => values[name] === true,
    positionals,
    seconds: number,
    text,
    whole(name, least, most) {
      const typed = text(name);
      if (typed === undefined) return undefined;
      const value = /^\d+$/.test(typed) ? Number(typed) : NaN;
      if (value >= least && value <= most) return value;
      const wanted = `a whole number from ${least} to ${most}`;
      throw new UsageError(`--${name} must be ${wanted}, not ${JSON.stringify(typed)}`);
    },
  };
}

/** What cannot be read as UTF-8 has come to us changed: we would lock another name, or run another command. */
function checkBytes(argv: readonly string[]): void {
  const bad = argv.find((arg) => arg.includes('\u{fffd}'));
  if (bad !== undefined) throw new UsageError(`the argument ${JSON.stringify(bad)} is not UTF-8`);
}

function parse(
  page: Page,
  args: readonly string[],
): { readonly values: Readonly<Record<string, unknown>>; readonly positionals: readonly string[] } {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {};
  for (const [name, flag] of Object.entries(page.flags)) {
    const type = flag.value === undefined ? 'boolean' : 'string';
    options[name] = flag.short === undefined ? { type } : { type, short: flag.short };
  }
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options, strict: true });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(`${inOurWords(error.message)}; see conclave ${page.name} --help`);
  }
}

/** What parseArgs says, without its advice to programmers. */
function inOurWords(message: string): string {
  const [sentence = message] = message.split(/\.(?:\s|$)/);
  const [, option = ''] = /'(-[^', ]+)/.exec(sentence) ?? [];
  if (/ambiguous$/.test(sentence)) return `${option} needs a value that does not begin with "-"`;
  return / missing$/.test(sentence) ? `${option} needs a value` : sentence;
}

/** The page's text. */
export function helpText(page: Page): string {
  const rows = Object.entries(page.flags).map(([name, flag]) => {
    const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
    const value = flag.value === undefined ? '' : ` ${flag.value}`;
    return { left: `  ${short}--${name}${value}`, help: flag.help };
  });
  const width = Math.max(...rows.map((row) => row.left.length)) + 2;
  const options = rows.map(
    (row) => row.left.padEnd(width) + row.help.replaceAll('\n', `\n${' '.repeat(width)}`),
  );
  const usage = page.usage.map((line, at) => `${at === 0 ? 'Usage: ' : '       '}conclave ${line}`);
  const parts = [usage.join('\n'), page.about, `Options:\n${options.join('\n')}`];
  if (page.notes !== undefined) parts.push(page.notes);
  return `${parts.join('\n\n')}\n`;
}
