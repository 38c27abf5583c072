/** How to speak TLS to an endpoint: what the caller gives, checked, and what gRPC is made to do with it. */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';

import { type ChannelCredentials, type ChannelOptions, credentials } from '@grpc/grpc-js';

import { checkOptions, shown } from '../../util/validate.js';
import type { Address } from './address.js';
import { FreshCredentials } from './fresh-credentials.js';
import { noticeResets } from './stuck-tls.js';
import { type Pem, Pems, type PemSources, type PemTexts } from './pems.js';

/**
 * How to speak TLS. Each of `ca`, `cert` and `key` is the content of a PEM file, or a function that gives it; or its file is
 * named. Functions are called, and files read, anew for each connection: what was renewed meanwhile is used from then on.
 */
export interface TlsOptions extends PemSources {
  /** The name to expect in the server's certificate, when it differs from the endpoint's host. */
  readonly serverName?: string | undefined;
}

const PARTS = ['ca', 'cert', 'key'] as const;

/** Refuses, with TypeError, what is not TlsOptions. Nothing is read. */
export function checkTls(tls: TlsOptions): void {
  checkOptions(tls, [...PARTS, 'caFile', 'certFile', 'keyFile', 'serverName'], 'tls');
  for (const part of PARTS) {
    const [given, file] = [tls[part], tls[`${part}File`]] as readonly unknown[];
    if (given !== undefined && file !== undefined)
      throw new TypeError(`tls.${part} and tls.${part}File are two ways to say the same: give one`);
    if (file !== undefined && (typeof file !== 'string' || file === ''))
      throw new TypeError(`tls.${part}File must be the path of a PEM file, not ${shown(file)}`);
  }
  const has = (part: 'cert' | 'key'): boolean => (tls[part] ?? tls[`${part}File`]) !== undefined;
  if (has('cert') !== has('key'))
    throw new TypeError(
      `tls.cert and tls.key (or tls.certFile and tls.keyFile) are given together: ${has('cert') ? 'tls.key' : 'tls.cert'} is missing`,
    );
  for (const part of PARTS) {
    const given = tls[part];
    if (given !== undefined && typeof given !== 'function') checkPem(part, given);
  }
}

/** Refuses what cannot be PEM, such as a path; Node takes any `ca`, and then trusts nobody. It is not shown: it may be a key. */
function checkPem(part: (typeof PARTS)[number], pem: Pem): void {
  if (!Buffer.from(pem).includes('-----BEGIN '))
    throw new TypeError(
      `tls.${part} must be the content of a PEM file, and this is none; if it is a path, give it as tls.${part}File`,
    );
}

/** What a channel to `address` needs to speak TLS, or not to. Throws TypeError for what is not PEM. */
export function security(
  { host, secure, socketName = host }: Address,
  tls: TlsOptions = {},
): { readonly credentials: ChannelCredentials; readonly options: ChannelOptions } {
  if (!secure) return { credentials: credentials.createInsecure(), options: {} };
  const { serverName } = tls;
  const name = serverName ?? host;
  const names = serverName === undefined ? [host, socketName] : [serverName];
  const options = serverName === undefined ? {} : { 'grpc.default_authority': name };
  const pems = new Pems(tls);
  const make = (texts: PemTexts): ChannelCredentials => {
    const made = noticeResets(tlsCredentials(texts, names));
    return isIP(name) > 0 ? unnamed(made) : made;
  };
  const made = pems.fixed === undefined ? new FreshCredentials(pems, make) : make(pems.fixed);
  return {
    credentials: made,
    options: isIP(name) > 0 ? options : { ...options, 'grpc.ssl_target_name_override': name },
  };
}

/** The certificate must be for one of the names. */
function tlsCredentials(pems: PemTexts, names: readonly string[]): ChannelCredentials {
  for (const part of PARTS) if (pems[part] !== undefined) checkPem(part, pems[part]);
  const { ca, cert, key } = pems;
  try {
    return credentials.createSsl(bytes(ca), bytes(key), bytes(cert), {
      checkServerIdentity: (_host, certificate) => {
        const errors = names.map((name) => checkName(name, certificate));
        return errors.includes(undefined) ? undefined : errors[0];
      },
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const text = `tls.ca, tls.cert and tls.key must be the content of PEM files, of one certificate and its key: ${why}`;
    throw new TypeError(text, { cause: error });
  }
}

/** Node's check, which in some releases (22.23) knows no IPv6 address of any certificate. */
function checkName(name: string, certificate: PeerCertificate): Error | undefined {
  const isNamed = isIP(name) === 6 && new X509Certificate(certificate.raw).checkIP(name) !== undefined;
  return isNamed ? undefined : checkServerIdentity(name, certificate);
}

function bytes(text: Pem | undefined): Buffer | null {
  return text === undefined ? null : Buffer.from(text);
}

/**
 * gRPC tells the server the host it wants, as TLS asks for; but an IP address must not be told (RFC 6066; Node warns with
 * DEP0123). It has no option for that, so the name is taken out of what it made. The certificate is checked all the same.
 */
function unnamed(made: ChannelCredentials): ChannelCredentials {
  const create = made._createSecureConnector.bind(made);
  made._createSecureConnector = (...args) => {
    const connector: object = create(...args);
    const { connectionOptions } = connector as { connectionOptions?: { servername?: string } };
    delete connectionOptions?.servername;
    return connector as ReturnType<typeof create>;
  };
  return made;
}
