import assert from 'node:assert/strict';
import { ConclaveError, type ErrorCode } from 'conclave';

/** For `assert.rejects`: a ConclaveError with this code. */
export function withCode(code: ErrorCode): (error: unknown) => true {
  return (error) => {
    if (!(error instanceof ConclaveError)) throw error;
    assert.equal(error.code, code, error.message);
    return true;
  };
}

/** For `assert.rejects`: a TypeError or RangeError whose message holds every part: what was given, and its name. */
export function refusal(...parts: readonly string[]): (error: unknown) => true {
  return (error) => {
    assert.ok(
      error instanceof TypeError || error instanceof RangeError,
      `neither TypeError nor RangeError: ${String(error)}`,
    );
    for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
    return true;
  };
}

/** For `assert.rejects`: this very value. */
export function exactly(reason: unknown): (error: unknown) => true {
  return (error) => {
    assert.equal(error, reason);
    return true;
  };
}
