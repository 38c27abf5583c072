/** Listens to the channels. What a listener of ours throws is nobody else's business: Node reports it by itself. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';

/** A message; of what goes from a start to an end, the same object each time. */
export type Told = Record<string | symbol, unknown>;
type Listener = (told: Told) => void;

/** Listens to a channel (`tracing:conclave:hold:start`). Returns how to stop. */
function listen(channel: string, listener: Listener): () => void {
  const onMessage = (message: unknown): void => listener(message as Told);
  subscribe(channel, onMessage);
  return () => unsubscribe(channel, onMessage);
}

/** Listens to what goes from a start to an end. */
export function onTraced(name: string, start: Listener, end: Listener): () => void {
  const stops = [
    listen(`tracing:conclave:${name}:start`, start),
    listen(`tracing:conclave:${name}:asyncEnd`, end),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** Listens to what happens. */
export function onEvent(name: string, listener: Listener): () => void {
  return listen(`conclave:${name}`, listener);
}
