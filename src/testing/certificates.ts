import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { systemClock } from '../util/clock.js';
import { bitString, commonName, der, objectId, pem, sequence, time, unsigned } from './der.js';

/** What one side of a TLS connection needs, as PEM text. */
export interface TlsMaterial {
  /** The authority that signed the other side's certificate. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A throw-away authority with a server and a client certificate, and a stranger's, to be refused. */
export interface TestCertificates {
  readonly server: TlsMaterial;
  readonly client: TlsMaterial;
  /** From an authority that neither side knows. */
  readonly stranger: TlsMaterial;
  /** Another certificate of the authority, such as one that renews the client's. */
  issue(options?: IssueOptions): TlsMaterial;
}

/** What a further certificate is. */
export interface IssueOptions {
  /** Its common name. @default that of the client */
  readonly name?: string | undefined;
  /** For how long it is valid, in milliseconds. @default a month */
  readonly validMs?: number | undefined;
  /** The name of the host it is for, of a server's. @default localhost, 127.0.0.1 and ::1 */
  readonly host?: string | undefined;
}

/** How test certificates are made. */
export interface CertificateOptions {
  /** Common name of the client; etcd takes it as the user when client certificates and auth are both on. @default 'conclave' */
  readonly clientName?: string | undefined;
}

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

interface Authority {
  readonly name: string;
  readonly keys: KeyPair;
  readonly cert: string;
}

interface Subject {
  readonly name: string;
  readonly keys: KeyPair;
  /** Signs its own certificate when absent. */
  readonly issuer?: Authority;
  readonly validMs?: number | undefined;
  readonly host?: string | undefined;
}

const DAY_MS = 86_400_000;
const ecdsaWithSha256 = sequence(objectId('1.2.840.10045.4.3.2'));
const yes = Buffer.of(0x01, 0x01, 0xff);

function extension(id: string, value: Uint8Array, critical = false): Buffer {
  return sequence(objectId(id), ...(critical ? [yes] : []), der(0x04, value));
}

/** Server and client in one: etcd's JSON gateway dials its own client port with the server's certificate. */
function leafExtensions(host = 'localhost'): Buffer[] {
  const addresses = [Buffer.of(127, 0, 0, 1), Buffer.concat([Buffer.alloc(15), Buffer.of(1)])];
  const names = sequence(
    der(0x82, Buffer.from(host)),
    ...(host === 'localhost' ? addresses.map((address) => der(0x87, address)) : []),
  );
  const usage = sequence(objectId('1.3.6.1.5.5.7.3.1'), objectId('1.3.6.1.5.5.7.3.2'));
  return [
    extension('2.5.29.15', bitString(Buffer.of(0x80), 7), true),
    extension('2.5.29.37', usage),
    extension('2.5.29.17', names),
  ];
}

function authorityExtensions(): Buffer[] {
  return [
    extension('2.5.29.19', sequence(yes), true),
    extension('2.5.29.15', bitString(Buffer.of(0x06), 1), true),
  ];
}

/** An X.509 v3 certificate (RFC 5280), valid from yesterday. */
function certify({ name, keys, issuer, host, validMs = 30 * DAY_MS }: Subject): string {
  const now = systemClock.wall();
  const serial = randomBytes(8);
  serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
  const body = sequence(
    der(0xa0, unsigned(Buffer.of(2))),
    unsigned(serial),
    ecdsaWithSha256,
    commonName(issuer?.name ?? name),
    sequence(time(new Date(now - DAY_MS)), time(new Date(now + validMs))),
    commonName(name),
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...(issuer === undefined ? authorityExtensions() : leafExtensions(host)))),
  );
  const signature = sign('sha256', body, (issuer?.keys ?? keys).privateKey);
  return pem('CERTIFICATE', sequence(body, ecdsaWithSha256, bitString(signature)));
}

function newKeys(): KeyPair {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
}

function newAuthority(name: string): Authority {
  const keys = newKeys();
  return { name, keys, cert: certify({ name, keys }) };
}

function issue(issuer: Authority, name: string, { host, validMs }: IssueOptions = {}): TlsMaterial {
  const keys = newKeys();
  return {
    ca: issuer.cert,
    cert: certify({ name, keys, issuer, host, validMs }),
    key: keys.privateKey.export({ type: 'sec1', format: 'pem' }).toString(),
  };
}

/**
 * Makes a set of certificates for 127.0.0.1 and localhost, in this process, for tests only: nothing is kept, and they
 * end after a month. Needs no openssl command.
 */
export function makeCertificates(options: CertificateOptions = {}): TestCertificates {
  const { clientName = 'conclave' } = options;
  const authority = newAuthority('conclave test authority');
  return {
    server: issue(authority, 'localhost'),
    client: issue(authority, clientName),
    stranger: issue(newAuthority('conclave stranger authority'), clientName),
    issue: (options = {}) => issue(authority, options.name ?? clientName, options),
  };
}
