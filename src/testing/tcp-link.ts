import { type Socket } from 'node:net';
import { systemClock, type Timer } from '../util/clock.js';

/** What happens to the bytes of one direction: they pass, are held until they may pass, or are lost. */
export type LaneMode = 'pass' | 'hold' | 'drop';

/** A mode and a delay for one direction. */
export interface LaneSettings {
  readonly mode: LaneMode;
  readonly delayMs: number;
}

type Item =
  | { readonly kind: 'bytes'; readonly dueMs: number; readonly bytes: Buffer }
  | { readonly kind: 'end'; readonly dueMs: number }
  | { readonly kind: 'reset'; readonly dueMs: number };

/** One direction of one connection: what `source` says is handed to `sink`, in order. */
export class Lane {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #queue: Item[] = [];
  #settings: LaneSettings;
  #timer: Timer | undefined;
  #lost = false;

  constructor(source: Socket, sink: Socket, settings: LaneSettings) {
    this.#source = source;
    this.#sink = sink;
    this.#settings = settings;
    let failed = false;
    source.on('data', (bytes) => this.#take({ kind: 'bytes', dueMs: this.#dueMs(), bytes }));
    source.on('end', () => this.#take({ kind: 'end', dueMs: this.#dueMs() }));
    source.on('error', () => (failed = true));
    source.on('close', () => {
      if (failed) this.#take({ kind: 'reset', dueMs: this.#dueMs() });
    });
    sink.on('drain', () => source.resume());
    sink.on('close', () => this.#timer?.cancel());
  }

  /** Whether bytes are missing, so that nothing sensible can follow. */
  get lost(): boolean {
    return this.#lost;
  }

  get settings(): LaneSettings {
    return this.#settings;
  }

  set settings(settings: LaneSettings) {
    this.#settings = settings;
    if (settings.mode === 'drop' && this.#queue.length > 0) {
      this.#queue.length = 0;
      this.#lost = true;
    }
    this.#flush();
  }

  #dueMs(): number {
    return systemClock.now() + this.#settings.delayMs;
  }

  #take(item: Item): void {
    if (this.#settings.mode === 'drop') {
      this.#lost = true;
      return;
    }
    this.#queue.push(item);
    this.#flush();
  }

  #flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    while (this.#settings.mode === 'pass') {
      const [item] = this.#queue;
      if (item === undefined) return;
      const waitMs = item.dueMs - systemClock.now();
      if (waitMs > 0) {
        if (!this.#sink.destroyed) this.#timer = systemClock.setTimer(Math.ceil(waitMs), () => this.#flush());
        return;
      }
      this.#queue.shift();
      this.#give(item);
    }
  }

  #give(item: Item): void {
    if (this.#sink.destroyed) return;
    if (item.kind === 'reset') this.#sink.resetAndDestroy();
    else if (item.kind === 'end') this.#sink.end();
    else if (!this.#sink.write(item.bytes)) this.#source.pause();
  }
}

/** One proxied connection: two sockets and a lane each way. */
export class TcpLink {
  readonly toServer: Lane;
  readonly toClient: Lane;
  readonly #client: Socket;
  readonly #server: Socket;

  constructor(client: Socket, server: Socket, settings: { toServer: LaneSettings; toClient: LaneSettings }) {
    this.#client = client;
    this.#server = server;
    client.setNoDelay(true);
    server.setNoDelay(true);
    this.toServer = new Lane(client, server, settings.toServer);
    this.toClient = new Lane(server, client, settings.toClient);
  }

  /** Whether the client still has its side. */
  get isOpen(): boolean {
    return !this.#client.destroyed;
  }

  /** Both sides get a reset. */
  cut(): void {
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
  }

  /** Calls `react` when either side is gone. */
  onClose(react: () => void): void {
    this.#client.on('close', react);
    this.#server.on('close', react);
  }

  /** Whether both sides are gone. */
  get isGone(): boolean {
    return this.#client.destroyed && this.#server.destroyed;
  }
}
