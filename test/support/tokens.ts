import assert from 'node:assert/strict';

/** Fails unless each token is greater than the one before. */
export function assertRising(tokens: readonly bigint[]): void {
  for (const [at, token] of tokens.entries()) {
    if (at > 0) assert.ok(token > (tokens[at - 1] ?? 0n), `tokens must rise: ${tokens.join(' ')}`);
  }
}
