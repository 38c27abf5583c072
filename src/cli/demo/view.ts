import type { Clock, Timer } from '../../util/clock.js';
import type { Journal, Term } from './journal.js';

/** Shows a run as it happens. */
export interface View {
  /** Something happened. */
  note(text: string): void;
  /** Nothing more will be shown. */
  end(): void;
}

/** Where a view writes; process.stdout is one. */
export interface Screen {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
  write(text: string): unknown;
}

const REDRAW_MS = 100;
/** How many of the last notes the live view shows. */
const NOTES_SHOWN = 8;

/** A live view on a terminal, plain lines elsewhere. */
export function makeView(screen: Screen, clock: Clock, journal: Journal): View {
  return screen.isTTY === true ? new LiveView(screen, clock, journal) : new LineView(screen, clock);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** One line for each note. */
export class LineView implements View {
  readonly #screen: Screen;
  readonly #clock: Clock;
  readonly #from: number;

  constructor(screen: Screen, clock: Clock) {
    this.#screen = screen;
    this.#clock = clock;
    this.#from = clock.now();
  }

  note(text: string): void {
    this.#screen.write(`${seconds(this.#clock.now() - this.#from).padStart(7)}  ${text}\n`);
  }

  end(): void {
    // Every line has been written.
  }
}

/** A block of lines at the bottom of the terminal, drawn anew ten times a second. */
export class LiveView implements View {
  readonly #screen: Screen;
  readonly #clock: Clock;
  readonly #journal: Journal;
  readonly #from: number;
  readonly #notes: string[] = [];
  #drawn = 0;
  #timer: Timer | undefined;

  constructor(screen: Screen, clock: Clock, journal: Journal) {
    this.#screen = screen;
    this.#clock = clock;
    this.#journal = journal;
    this.#from = clock.now();
    // The cursor would jump about.
    screen.write('\x1b[?25l');
    this.#tick();
  }

  note(text: string): void {
    this.#notes.push(`${seconds(this.#clock.now() - this.#from).padStart(7)}  ${text}`);
    if (this.#notes.length > NOTES_SHOWN) this.#notes.shift();
  }

  end(): void {
    this.#timer?.cancel();
    this.#draw();
    this.#screen.write('\x1b[?25h');
  }

  #tick(): void {
    this.#draw();
    this.#timer = this.#clock.setTimer(REDRAW_MS, () => this.#tick());
  }

  #draw(): void {
    const width = (this.#screen.columns || 80) - 1;
    // A block higher than the terminal could not be drawn over: it would scroll away, again and again.
    const height = (this.#screen.rows || 24) - 1;
    const lines = this.#lines()
      .slice(0, height)
      .map((line) => line.slice(0, width));
    const up = this.#drawn === 0 ? '' : `\x1b[${this.#drawn}A`;
    // Clear from the cursor down: a shorter block leaves nothing of a longer one.
    this.#screen.write(`${up}\r\x1b[J${lines.join('\n')}\n`);
    this.#drawn = lines.length;
  }

  #lines(): string[] {
    const { states, terms, leader } = this.#journal;
    const now = this.#clock.now();
    const records = terms.reduce((sum, term) => sum + term.records, 0);
    const current = terms.at(-1);
    const since =
      current?.worker === leader && current !== undefined ? ` for ${seconds(now - current.since)}` : '';
    return [
      `conclave demo   ${seconds(now - this.#from)}   ${terms.length} terms   ${records} records   ${this.#journal.pushed.length} jobs`,
      leader === undefined ? 'nobody leads' : `${leader} leads${since}`,
      '',
      ...[...states].map(
        ([name, state]) => `  ${name === leader && state !== 'killed' ? '*' : ' '} ${name}  ${state}`,
      ),
      '',
      ...terms.map(termLine),
      '',
      ...this.#notes,
    ];
  }
}

function termLine(term: Term, at: number): string {
  const how = term.after === undefined ? '' : `   ${term.after.ms} ms after the ${term.after.loss}`;
  return `  term ${at + 1}  ${term.worker}  token ${String(term.token)}  ${term.records} records${how}`;
}
