/**
 * One question for all who ask at the same time. Whoever asks while one is under way gets the answer to the next, since what
 * was asked before may be answered by what was before.
 */
export class SharedProbe<Answer> {
  readonly #send: () => Promise<Answer>;
  #underWay: Promise<Answer> | undefined;
  #next: Promise<Answer> | undefined;

  constructor(send: () => Promise<Answer>) {
    this.#send = send;
  }

  /** Resolves with an answer to a question that is sent after this call. */
  ask(): Promise<Answer> {
    this.#next ??= this.#sendNext();
    return this.#next;
  }

  async #sendNext(): Promise<Answer> {
    await this.#underWay?.catch(() => undefined);
    // Those who ask until now share it, and nobody who asks later.
    this.#next = undefined;
    this.#underWay = this.#send();
    return this.#underWay;
  }
}
