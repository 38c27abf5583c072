/**
 * A process of a fleet: carries out commands that come over IPC, and answers each with what came of it. Which commands
 * there are says the module whose path is the first argument.
 */
import { Client } from 'conclave';

import type { Answer, Command, Operations } from './fleet.js';
import { errorText } from './window.js';

const [subject = '', ...endpoints] = process.argv.slice(2);
const client = new Client({ endpoints });
const module = (await import(subject)) as { operations: (client: Client) => Operations };
const operations = module.operations(client);

/** Carries out a command; an error is an answer, too. */
async function carryOut({ id, operation, args }: Command): Promise<Answer> {
  try {
    const run = operations[operation];
    if (run === undefined) throw new TypeError(`no operation ${operation}`);
    return { id, value: await run(...(args as never[])) };
  } catch (error) {
    return { error: errorText(error), id };
  }
}

process.on('message', (command: Command) => {
  void carryOut(command).then((answer) => process.send?.(answer));
});
process.on('disconnect', () => process.exit());
process.send?.({ id: -1 } satisfies Answer);
