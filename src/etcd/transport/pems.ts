/** Certificates and keys as they are at the moment: given once, read from files, or asked of functions. */
import { readFile } from 'node:fs/promises';

import { ConclaveError } from '../../errors/conclave-error.js';
import { type Given, given } from './given.js';

/** The content of a PEM file. */
export type Pem = Uint8Array | string;
/** The content of a PEM file, or what gives it, anew for each connection. */
export type PemSource = Given<Pem>;

/** Where each comes from: given, or in a file. */
export interface PemSources {
  /** The authorities to trust. @default those Node trusts */
  readonly ca?: PemSource | undefined;
  /** Our certificate, when the server asks for one. */
  readonly cert?: PemSource | undefined;
  /** The key of our certificate. */
  readonly key?: PemSource | undefined;
  /** The path of the file with `ca`. */
  readonly caFile?: string | undefined;
  /** The path of the file with `cert`. */
  readonly certFile?: string | undefined;
  /** The path of the file with `key`. */
  readonly keyFile?: string | undefined;
}

/** What a connection is made with. */
export interface PemTexts {
  readonly ca?: Pem | undefined;
  readonly cert?: Pem | undefined;
  readonly key?: Pem | undefined;
}

export class Pems {
  /** What never changes; undefined when something is read anew each time. */
  readonly fixed: PemTexts | undefined;
  readonly #sources: PemSources;

  constructor(sources: PemSources) {
    this.#sources = sources;
    const { ca, cert, key } = sources;
    const files = [sources.caFile, sources.certFile, sources.keyFile];
    if (files.some((file) => file !== undefined)) return;
    if (typeof ca !== 'function' && typeof cert !== 'function' && typeof key !== 'function')
      this.fixed = { ca, cert, key };
  }

  /** Reads them, together. Rejects with `TLS_FAILED`, naming the option, when one cannot be had. */
  async read(): Promise<PemTexts> {
    const [ca, cert, key] = await Promise.all([this.#read('ca'), this.#read('cert'), this.#read('key')]);
    return { ca, cert, key };
  }

  async #read(part: 'ca' | 'cert' | 'key'): Promise<Pem | undefined> {
    const file = this.#sources[`${part}File`];
    if (file !== undefined) {
      return readFile(file).catch((cause: unknown) => {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new ConclaveError('TLS_FAILED', `tls.${part}File ${file} cannot be read: ${why}`, { cause });
      });
    }
    return given<Pem | undefined>(this.#sources[part], `tls.${part}`, isPem, 'TLS_FAILED');
  }
}

function isPem(value: unknown): boolean {
  return typeof value === 'string' || value instanceof Uint8Array;
}
