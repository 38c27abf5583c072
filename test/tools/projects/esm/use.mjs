import * as conclave from 'conclave';
import * as embedded from 'conclave/embedded';
import * as testing from 'conclave/testing';

import { program } from '../program.cjs';

void program(conclave, embedded, testing).then(console.log);
