// A program that loads both forms of the package has one instance of everything.
import { createRequire } from 'node:module';

import * as conclave from 'conclave';
import * as embedded from 'conclave/embedded';
import * as testing from 'conclave/testing';

const require = createRequire(import.meta.url);
for (const [imported, required] of [
  [conclave, require('conclave')],
  [embedded, require('conclave/embedded')],
  [testing, require('conclave/testing')],
]) {
  const names = Object.keys(imported).filter((name) => name !== 'default' && name !== 'module.exports');
  console.log(names.length > 0 && names.every((name) => imported[name] === required[name]));
}
