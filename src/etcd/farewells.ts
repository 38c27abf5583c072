/** The last calls of a client: made when it is closed, but not for long. */
import { waitAtMost } from '../util/abort.js';
import { type Clock, goingClock } from '../util/clock.js';

/** Makes last calls. */
export type Farewell = () => Promise<unknown>;

/** How long closing waits for them. */
const FAREWELL_MS = 500;

export async function sayFarewell(farewells: ReadonlySet<Farewell>, clock: Clock): Promise<void> {
  if (farewells.size === 0) return;
  const last = [...farewells].map((farewell) => farewell());
  // A clock that stands still must not keep connections open.
  await waitAtMost(goingClock(clock), FAREWELL_MS, Promise.all(last));
}
