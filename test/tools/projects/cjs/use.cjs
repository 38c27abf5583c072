const { program } = require('../program.cjs');

void program(require('conclave'), require('conclave/embedded'), require('conclave/testing')).then(
  console.log,
);
