import assert from 'node:assert/strict';
import { Client, type ClientOptions, ConclaveError, type ErrorCode, Session } from 'conclave';

/** Every kind of call fails within its deadline, with one of these codes, in words that hold every part. */
export async function failsClearly(
  options: ClientOptions,
  codes: readonly ErrorCode[],
  ...parts: readonly string[]
): Promise<void> {
  await using client = new Client({ timeoutMs: 1000, ...options });
  const calls = {
    get: () => client.kv.get('a'),
    grant: () => client.lease.grant(5),
    keepAliveOnce: () => client.lease.keepAliveOnce(5n),
    put: () => client.kv.put('a', 'x'),
    session: () => Session.open(client),
    status: () => client.maintenance.status(),
  };
  const check = async ([name, call]: [string, () => Promise<unknown>]): Promise<void> => {
    const startedAt = performance.now();
    const error = await call().then(
      () => assert.fail(`${name} resolved`),
      (reason: unknown) => reason,
    );
    const tookMs = performance.now() - startedAt;
    assert.ok(error instanceof ConclaveError, `${name}: ${String(error)}`);
    assert.ok(codes.includes(error.code), `${name}: ${error.code}: ${error.message}`);
    assert.ok(!error.message.includes('\n'), `${name}: more than a line: ${error.message}`);
    for (const part of parts) assert.ok(error.message.includes(part), `${name}: ${error.message}`);
    assert.ok(tookMs < 2000, `${name}: ${tookMs} ms`);
  };
  await Promise.all(Object.entries(calls).map(check));
}
