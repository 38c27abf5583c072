import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A script that conclave's processes run first: a fault of the machine, which a test cannot make otherwise. `option` is for NODE_OPTIONS. */
export class Preload implements Disposable {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'conclave-preload-'));
  readonly option: string;

  constructor(script: string) {
    const file = path.join(this.folder, 'preload.cjs');
    writeFileSync(file, script);
    this.option = `--require ${file}`;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { force: true, recursive: true });
  }
}
