/** A value for an error message: short, quoted, safe to print. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  return typeof value === 'object' && value !== null ? Object.prototype.toString.call(value) : String(value);
}

/** Half of a pair of surrogates. UTF-8 has none: all of them would be written as the same character. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** The name of a lock, election or queue: well-formed text, not empty, no NUL. `what` is the argument's name. */
export function checkName(name: unknown, what: string): string {
  if (typeof name !== 'string') throw new TypeError(`${what} must be a string, not ${shown(name)}`);
  if (name === '') throw new TypeError(`${what} must not be empty`);
  if (name.includes('\0')) throw new TypeError(`${what} must not contain a NUL: ${shown(name)}`);
  checkWellFormed(name, what);
  return name;
}

/** Text that UTF-8 can write, so that what is read back is the same. */
export function checkWellFormed(text: string, what: string): void {
  if (LONE_SURROGATE.test(text))
    throw new TypeError(`${what} must not contain a lone surrogate: ${shown(text)}`);
}

/** A lease's time to live: a finite number of seconds, at least 1; etcd takes whole seconds, so fractions are refused. */
export function checkTtlSeconds(ttlSeconds: unknown, what = 'ttlSeconds'): number {
  if (typeof ttlSeconds !== 'number') {
    throw new TypeError(`${what} must be a number of seconds, not ${shown(ttlSeconds)}`);
  }
  if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > 9_000_000_000) {
    throw new RangeError(
      `${what} must be a whole number of seconds from 1 to 9000000000, not ${shown(ttlSeconds)}`,
    );
  }
  return ttlSeconds;
}

/** An object of one of `classes`, which are given by their names, as in `{ Session, Client }`. */
export function checkInstance(
  value: unknown,
  classes: Readonly<Record<string, { readonly prototype: object }>>,
  what: string,
): void {
  const isOf = ({ prototype }: { readonly prototype: object }): boolean =>
    Object.prototype.isPrototypeOf.call(prototype, value as object);
  if (Object.values(classes).some(isOf)) return;
  throw new TypeError(`${what} must be a ${Object.keys(classes).join(' or a ')}, not ${shown(value)}`);
}

/** Something to call. */
export function checkFunction<F>(value: F | undefined, what: string): F {
  if (typeof value !== 'function') throw new TypeError(`${what} must be a function, not ${shown(value)}`);
  return value;
}

/** True or false, and nothing that merely looks like it. */
export function checkBoolean(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') throw new TypeError(`${what} must be true or false, not ${shown(value)}`);
  return value;
}

/** A whole number of at least `least`. */
export function checkCount(value: unknown, what: string, least = 0): number {
  if (typeof value !== 'number') throw new TypeError(`${what} must be a number, not ${shown(value)}`);
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`${what} must be a whole number >= ${String(least)}, not ${shown(value)}`);
  }
  return value;
}

/** A number of milliseconds >= `least`; Infinity is refused. */
export function checkMs(value: unknown, what: string, least = 0): number {
  if (typeof value !== 'number')
    throw new TypeError(`${what} must be a number of milliseconds, not ${shown(value)}`);
  if (!Number.isFinite(value) || value < least) {
    throw new RangeError(
      `${what} must be a finite number of milliseconds >= ${String(least)}, not ${shown(value)}`,
    );
  }
  return value;
}

/** A whole number as etcd has them: a bigint from `least` to what 63 bits hold. */
export function checkInt64(value: unknown, what: string, least = -(2n ** 63n)): bigint {
  if (typeof value !== 'bigint') {
    throw new TypeError(`${what} must be a bigint, such as 1n, not ${shown(value)}`);
  }
  if (value < least || value >= 2n ** 63n) {
    throw new RangeError(`${what} must be from ${String(least)} to 2^63 - 1, not ${String(value)}`);
  }
  return value;
}

/** One of a few words. */
export function checkChoice(value: unknown, choices: readonly string[], what: string): void {
  if (choices.some((choice) => choice === value)) return;
  const known = `${choices.slice(0, -1).join(', ')} or ${String(choices.at(-1))}`;
  throw new TypeError(`${what} must be ${known}, not ${shown(value)}`);
}

/** The limits of a call or wait: `timeoutMs` from 0 to Infinity, and an AbortSignal. */
export function checkLimits({
  timeoutMs,
  signal,
}: {
  readonly timeoutMs?: unknown;
  readonly signal?: unknown;
}): void {
  if (timeoutMs !== undefined) {
    if (typeof timeoutMs !== 'number') {
      throw new TypeError(`timeoutMs must be a number of milliseconds, not ${shown(timeoutMs)}`);
    }
    if (!(timeoutMs >= 0)) {
      throw new RangeError(`timeoutMs must be a number of milliseconds >= 0, not ${String(timeoutMs)}`);
    }
  }
  if (signal !== undefined && !isAbortSignal(signal)) {
    throw new TypeError(`signal must be an AbortSignal, not ${shown(signal)}`);
  }
}

/** Also one of another realm, as test tools and sandboxes make. */
function isAbortSignal(value: unknown): value is AbortSignal {
  if (value instanceof AbortSignal) return true;
  if (typeof value !== 'object' || value === null) return false;
  const { aborted, addEventListener, throwIfAborted } = value as Partial<AbortSignal>;
  return (
    typeof aborted === 'boolean' &&
    typeof addEventListener === 'function' &&
    typeof throwIfAborted === 'function'
  );
}

/** Refuses options that do not exist, so that a misspelt one is not silently ignored. */
export function checkOptions(options: unknown, known: readonly string[], where: string): void {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`${where}: options must be an object, not ${shown(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new TypeError(`${where}: unknown option ${shown(name)}; it takes ${known.join(', ')}`);
    }
  }
}
