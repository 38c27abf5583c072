import { until } from './until.js';

/** Calls that are made until they are stopped. */
export interface Load {
  /** How many have gone through. Throws why one has not. */
  made(): number;
  /** Rejects with the first failure. */
  stop(): Promise<void>;
}

/** Calls of four askers, each one after the other. */
export function load(call: (name: string) => Promise<unknown>): Load {
  let made = 0;
  let goesOn = true;
  let failure: { readonly error: unknown } | undefined;
  const one = async (name: string): Promise<void> => {
    while (goesOn) {
      await call(name);
      made += 1;
    }
  };
  const all = Promise.all(['a', 'b', 'c', 'd'].map((name) => one(`load/${name}`)));
  all.catch((error: unknown) => (failure = { error }));
  return {
    made: () => {
      if (failure !== undefined) throw failure.error;
      return made;
    },
    stop: async () => {
      goesOn = false;
      await all;
    },
  };
}

/** Waits for so many more calls. */
export async function further(calls: Load): Promise<void> {
  const before = calls.made();
  await until(() => calls.made() > before + 8, { what: 'calls go through' });
}
