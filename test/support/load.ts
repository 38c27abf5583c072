import { until } from './until.js';

/** Calls of four askers, one after the other, until it is stopped; that rejects with the first failure. */
export function load(call: (name: string) => Promise<unknown>): {
  readonly made: () => number;
  stop(): Promise<void>;
} {
  let made = 0;
  let goesOn = true;
  const one = async (name: string): Promise<void> => {
    while (goesOn) {
      await call(name);
      made += 1;
    }
  };
  const all = Promise.all(['a', 'b', 'c', 'd'].map((name) => one(`load/${name}`)));
  all.catch(() => undefined); // It is told of when it is stopped.
  return {
    made: () => made,
    stop: async () => {
      goesOn = false;
      await all;
    },
  };
}

/** Waits for so many more calls. */
export async function further(calls: { readonly made: () => number }): Promise<void> {
  const before = calls.made();
  await until(() => calls.made() > before + 8, { what: 'calls go through' });
}
