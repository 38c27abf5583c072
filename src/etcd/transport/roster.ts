import type { Endpoint } from './endpoint.js';

/** The members that a client knows of, which may be others from one moment to the next. */
export interface Members {
  readonly all: readonly Endpoint[];
  /** Calls `changed` whenever they are others. Returns what ends that. */
  onChange(changed: () => void): () => void;
}

/** Keeps the members of a client: each URL is one endpoint, for as long as it is named. */
export class Roster implements Members {
  readonly #make: (url: string) => Endpoint;
  readonly #listeners = new Set<() => void>();
  /** Those that are named no more, and have calls under way. */
  readonly #leaving = new Set<Endpoint>();
  #all: readonly Endpoint[] = [];

  constructor(urls: readonly string[], make: (url: string) => Endpoint) {
    this.#make = make;
    this.#all = this.named(urls);
  }

  get all(): readonly Endpoint[] {
    return this.#all;
  }

  get urls(): string {
    return this.#all.map(({ url }) => url).join(', ');
  }

  onChange(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  /** The endpoints of these URLs: those that are there already, and new ones that are not part of the roster yet. Throws TypeError. */
  named(urls: readonly string[]): readonly Endpoint[] {
    return [...new Set(urls)].map((url) => this.#all.find((each) => each.url === url) ?? this.#make(url));
  }

  /** From now on the members are these. The others are left: what they were asked is answered yet. */
  replace(endpoints: readonly Endpoint[]): void {
    // One that was left meanwhile is begun anew.
    const all = endpoints.map((endpoint) => (endpoint.retired ? this.#make(endpoint.url) : endpoint));
    const left = this.#all.filter((endpoint) => !all.includes(endpoint));
    this.#all = all;
    for (const endpoint of left) {
      this.#leaving.add(endpoint);
      endpoint.retire(() => this.#leaving.delete(endpoint));
    }
    for (const changed of [...this.#listeners]) changed();
  }

  /** Ends every channel, for good. */
  close(): void {
    for (const endpoint of [...this.#all, ...this.#leaving]) endpoint.close();
    this.#leaving.clear();
  }
}
