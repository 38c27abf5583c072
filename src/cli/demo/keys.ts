/**
 * Where one run of the demo keeps its keys: all below a prefix that no other run has, so that it can be removed whole.
 *
 *     conclave-demo/RUN/leader/…           the election
 *     conclave-demo/RUN/last               the number of the last record, so that numbers go on from term to term
 *     conclave-demo/RUN/records/00000001   one record: who wrote it in which term
 *     conclave-demo/RUN/late/TOKEN         there only if etcd took a write of a leader that had lost its term
 *     conclave-demo/RUN/jobs/…             the queue of the jobs that leaders push and workers take
 *     conclave-demo/RUN/done/ID/TOKEN      the effect of one run of a job, written as the job was acknowledged
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

  get jobs(): string {
    return `${this.prefix}jobs`;
  }

  get done(): string {
    return `${this.prefix}done/`;
  }

  effect(jobId: string, token: bigint): string {
    return `${this.done}${jobId}/${String(token)}`;
  }

  record(number: number): string {
    return this.records + String(number).padStart(8, '0');
  }

  lateWrite(token: bigint): string {
    return this.late + String(token);
  }
}
