const PREFIX_BYTES = 5;

/** Cuts a gRPC body into its messages: a flag byte, four bytes of length, then the message (gRPC over HTTP/2). */
export class MessageFramer {
  #rest: Buffer = Buffer.alloc(0);
  #parts: Buffer[] = [];
  #size = 0;
  #wanted = PREFIX_BYTES;

  /** The messages that are whole now, each with its prefix. */
  push(chunk: Buffer): Buffer[] {
    this.#parts.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return [];
    this.#rest = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts);
    const messages: Buffer[] = [];
    for (;;) {
      this.#wanted = PREFIX_BYTES;
      if (this.#rest.length < this.#wanted) break;
      this.#wanted += this.#rest.readUInt32BE(1);
      if (this.#rest.length < this.#wanted) break;
      messages.push(this.#rest.subarray(0, this.#wanted));
      this.#rest = this.#rest.subarray(this.#wanted);
    }
    this.#parts = this.#rest.length === 0 ? [] : [this.#rest];
    this.#size = this.#rest.length;
    return messages;
  }
}

/** A framed message without its prefix. */
export function payloadOf(message: Buffer): Buffer {
  return message.subarray(PREFIX_BYTES);
}
