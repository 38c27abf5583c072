/**
 * Where one run of the demo keeps its keys: all below a prefix that no other run has, so that it can be removed whole.
 *
 *     conclave-demo/RUN/leader/…           the election
 *     conclave-demo/RUN/last               the number of the last record, so that numbers go on from term to term
 *     conclave-demo/RUN/records/00000001   one record: who wrote it in which term
 *     conclave-demo/RUN/late/TOKEN         there only if a leader's write landed after it had lost its term
 */
export class DemoKeys {
  readonly run: string;
  readonly prefix: string;

  constructor(run: string) {
    this.run = run;
    this.prefix = `conclave-demo/${run}/`;
  }

  get election(): string {
    return `${this.prefix}leader`;
  }

  get last(): string {
    return `${this.prefix}last`;
  }

  get records(): string {
    return `${this.prefix}records/`;
  }

  get late(): string {
    return `${this.prefix}late/`;
  }

  record(number: number): string {
    return this.records + String(number).padStart(8, '0');
  }

  lateWrite(token: bigint): string {
    return this.late + String(token);
  }
}
