import { fileURLToPath } from 'node:url';

/** The project's top folder, seen from build/bench/lib. */
export const top = fileURLToPath(new URL('../../..', import.meta.url));
