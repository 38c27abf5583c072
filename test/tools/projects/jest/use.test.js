const conclave = require('conclave');
const embedded = require('conclave/embedded');
const testing = require('conclave/testing');
const { program } = require('../program.cjs');

test('the program runs under Jest as it comes', async () => {
  expect(await program(conclave, embedded, testing)).toBe('bigint true 0 TypeError true');
});
