/** The line between a model's processes and their server: as it is, or one on which requests arrive late, a second time. */
import { FaultProxy, type LateCopies, type LateKind } from 'conclave/testing';

/** How often a request is late when its sender is told so: each costs it another try. */
const CHANCE = 0.3;

/**
 * What `CONCLAVE_LATE_COPIES` asks for: `first` (a request of three is late, and its sender, who cannot know, sends it
 * again), `copy` (a copy of each comes late, of which nobody is told), or nothing.
 */
export function lateKind(): LateKind | undefined {
  const asked = process.env['CONCLAVE_LATE_COPIES'];
  if (asked === undefined || asked === '') return undefined;
  if (asked === 'first' || asked === 'copy') return asked;
  throw new TypeError(`CONCLAVE_LATE_COPIES must be 'first' or 'copy', not ${asked}`);
}

/** Makes a proxy's requests late as it is asked for. Undefined: nothing is asked for. */
export function makeLate(proxy: FaultProxy, seed: () => number): LateCopies | undefined {
  const kind = lateKind();
  if (kind === undefined) return undefined;
  return proxy.lateCopies({ chance: kind === 'first' ? CHANCE : 1, kind, seed: seed() });
}

/** A way to a server. */
export class LateLine implements AsyncDisposable {
  readonly endpoints: readonly string[];
  readonly #proxy: FaultProxy | undefined;
  readonly #copies: LateCopies | undefined;

  private constructor(endpoints: readonly string[], proxy?: FaultProxy, copies?: LateCopies) {
    this.endpoints = endpoints;
    this.#proxy = proxy;
    this.#copies = copies;
  }

  /** Opens it; `seed` is asked for one if there is anything to choose. */
  static async open(endpoints: readonly string[], seed: () => number): Promise<LateLine> {
    if (lateKind() === undefined) return new LateLine(endpoints);
    const proxy = await FaultProxy.start(endpoints[0] ?? '', { grpc: true });
    return new LateLine([proxy.endpoint], proxy, makeLate(proxy, seed));
  }

  /** Whether requests are late on it: then everything takes longer. */
  get isLate(): boolean {
    return this.#copies !== undefined;
  }

  /** Whether a key may be there until its session ends: a permit, for which nobody has asked as far as anybody knows. */
  mayLeave(key: string): boolean {
    return lateKind() === 'copy' && /\/\.once\/[^/]+$/.test(key);
  }

  /** Makes no more requests late. */
  stop(): void {
    this.#copies?.stop();
  }

  /** Resolves once all that are late have arrived. */
  async settled(): Promise<void> {
    if (this.#copies === undefined) return;
    this.stop();
    await this.#copies.settled();
    console.log(`# ${this.#copies.arrived} requests arrived late`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy?.close();
  }
}
