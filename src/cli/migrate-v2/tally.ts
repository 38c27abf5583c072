/** Counts what became of the nodes, and prints it. */
import type { Fate, Outcome } from './copy.js';

/** What a person is told of these, one by one. */
const LEFT_OUT: readonly Fate[] = ['different', 'blocked', 'unfit'];
const COUNTED: readonly Fate[] = ['created', 'replaced', 'same', 'expired', 'different', 'blocked', 'unfit'];

export class Tally {
  readonly #dryRun: boolean;
  readonly #json: boolean;
  readonly #counts = new Map<Fate, number>(COUNTED.map((fate) => [fate, 0]));
  readonly #leftOut: Outcome[] = [];

  constructor({ dryRun, json }: { readonly dryRun: boolean; readonly json: boolean }) {
    this.#dryRun = dryRun;
    this.#json = json;
  }

  /** Whether all that v2 had is there now. */
  get complete(): boolean {
    return this.#leftOut.length === 0;
  }

  add(outcome: Outcome): void {
    const { fate, why = '' } = outcome;
    // Half a surrogate pair stands for what is not UTF-8.
    const path = outcome.path.replaceAll(/[\ud800-\udfff]/gu, '\ufffd');
    this.#counts.set(fate, this.#count(fate) + 1);
    if (LEFT_OUT.includes(fate)) {
      this.#leftOut.push({ ...outcome, path });
      console.error(`conclave migrate-v2: ${JSON.stringify(path)} is left out (${fate}): ${why}`);
    } else if (this.#dryRun && !this.#json && (fate === 'created' || fate === 'replaced')) {
      console.log(`${fate === 'created' ? 'create ' : 'replace'}  ${JSON.stringify(path)}`);
    }
  }

  /** The outcome. */
  print(): void {
    console.log(this.#json ? this.#asJson() : this.#asText());
  }

  /** That it has not come to its end, if it has begun. */
  printBrokenOff(): void {
    const done = [...this.#counts.values()].reduce((sum, each) => sum + each, 0);
    if (done > 0) console.error(`conclave migrate-v2: broken off (${this.#asText()}); run it again to go on`);
  }

  #asJson(): string {
    const left = this.#leftOut.map(({ fate, path, why }) => ({ path, fate, why }));
    return JSON.stringify({ ...Object.fromEntries(this.#counts), leftOut: left, dryRun: this.#dryRun });
  }

  #asText(): string {
    const would = this.#dryRun ? 'would be ' : '';
    const parts = [
      `${this.#count('created')} ${would}created`,
      `${this.#count('replaced')} ${would}replaced`,
      `${this.#count('same')} there already`,
      `${this.#count('expired')} expired meanwhile`,
      `${this.#leftOut.length} left out`,
    ];
    return parts.join(', ');
  }

  #count(fate: Fate): number {
    return this.#counts.get(fate) ?? 0;
  }
}
