/**
 * As an async function without its frame, of which each call that waits would keep one: what `make` throws at once, such as a
 * TypeError, becomes a rejection.
 */
export function promised<T>(make: () => Promise<T>): Promise<T> {
  try {
    return make();
  } catch (error) {
    return rejected(error);
  }
}

async function rejected(error: unknown): Promise<never> {
  throw error;
}
