/** Text for a terminal: as wide as it is, broken between words, in colour where that is wanted. */

/** Where text goes. */
export interface Screen {
  /** Columns; undefined: lines may be as long as they are, as in a pipe. */
  readonly width: number | undefined;
  readonly colour: boolean;
}

type Env = Readonly<Record<string, string | undefined>>;

/** What our output goes to. `COLUMNS` says how wide it is where that is no terminal; `NO_COLOR` takes the colours away. */
export function screenOf(stream: NodeJS.WriteStream = process.stdout, env: Env = process.env): Screen {
  const told = Number(env['COLUMNS']);
  const width = stream.isTTY ? stream.columns : undefined;
  const noColour = (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb';
  return { colour: stream.isTTY && !noColour, width: width ?? (told >= 20 ? told : undefined) };
}

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const;

/** The text in a colour, if the screen has any. */
export function paint(screen: Screen, how: keyof typeof CODES, text: string): string {
  return screen.colour && text !== '' ? `\u{1b}[${String(CODES[how])}m${text}\u{1b}[0m` : text;
}

/** A name as it may be shown: what is no character to be seen, and could move the cursor, as an escape. */
export function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u{fffd}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** How many columns a text takes. */
function columns(text: string): number {
  // eslint-disable-next-line no-control-regex -- Our own colours take no room.
  return Array.from(text.replaceAll(/\u{1b}\[\d+m/gu, '')).length;
}

/** Text in lines no longer than the screen is wide, broken at spaces; a word that is longer stays whole. Later lines are indented by `hang`. */
export function wrap({ width }: Screen, text: string, hang = 0): string {
  if (width === undefined) return text;
  const [, lead = '', rest = ''] = /^( *)(.*)$/s.exec(text) ?? [];
  const indent = ' '.repeat(lead.length + hang);
  const lines: string[] = [];
  let line = lead;
  let isEmpty = true;
  for (const word of rest.split(' ')) {
    if (!isEmpty && columns(line) + 1 + columns(word) > width) {
      lines.push(line);
      line = indent;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line].join('\n');
}

/** Rows in columns below a head; undefined: the screen is too narrow for them. */
export function table(
  screen: Screen,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string | undefined {
  const widths = head.map((title, at) =>
    Math.max(columns(title), ...rows.map((row) => columns(row[at] ?? ''))),
  );
  const total = widths.reduce((sum, each) => sum + each + 2, -2);
  if (screen.width !== undefined && total > screen.width) return undefined;
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => cell + ' '.repeat((widths[at] ?? 0) - columns(cell)))
      .join('  ')
      .trimEnd();
  return [paint(screen, 'dim', line(head)), ...rows.map(line)].join('\n');
}

/** A time as how long ago it was, in two units at most: 3m 12s. */
export function ago(iso: string | undefined, nowMs: number): string {
  const at = iso === undefined ? NaN : Date.parse(iso);
  if (Number.isNaN(at)) return '?';
  return span(Math.max(0, nowMs - at) / 1000);
}

/** Seconds as people say them, in two units at most. */
export function span(seconds: number): string {
  const whole = Math.floor(seconds);
  const units = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ] as const;
  const first = units.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  return units
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** "1 job", "2 jobs". */
export function counted(count: number, what: string): string {
  return `${String(count)} ${what}${count === 1 ? '' : 's'}`;
}
