import * as conclave from 'conclave';
import * as embedded from 'conclave/embedded';
import * as testing from 'conclave/testing';
import { expect, test } from 'vitest';

import { program } from '../program.cjs';

test('the program runs under Vitest as it comes', async () => {
  expect(await program(conclave, embedded, testing)).toBe('bigint true 0 TypeError true');
});
