import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';

import { type ChannelCredentials, type ChannelOptions, credentials } from '@grpc/grpc-js';

import type { Address } from './address.js';

/** How to speak TLS. Each is the content of a PEM file, not its path. */
export interface TlsOptions {
  /** The authorities to trust. @default those Node trusts */
  readonly ca?: Uint8Array | string | undefined;
  /** Our certificate, when the server asks for one. */
  readonly cert?: Uint8Array | string | undefined;
  /** The key of our certificate. */
  readonly key?: Uint8Array | string | undefined;
  /** The name to expect in the server's certificate, when it differs from the endpoint's host. */
  readonly serverName?: string | undefined;
}

/** What a channel to `address` needs to speak TLS, or not to. Throws TypeError for what is not PEM. */
export function security(
  { host, secure }: Address,
  tls: TlsOptions | undefined,
): { readonly credentials: ChannelCredentials; readonly options: ChannelOptions } {
  if (!secure) return { credentials: credentials.createInsecure(), options: {} };
  const { serverName } = tls ?? {};
  const name = serverName ?? host;
  const options = serverName === undefined ? {} : { 'grpc.default_authority': name };
  const made = tlsCredentials(tls, name);
  if (isIP(name) > 0) return { credentials: unnamed(made), options };
  return { credentials: made, options: { ...options, 'grpc.ssl_target_name_override': name } };
}

function tlsCredentials(tls: TlsOptions | undefined, name: string): ChannelCredentials {
  try {
    return credentials.createSsl(pem(tls?.ca), pem(tls?.key), pem(tls?.cert), {
      checkServerIdentity: (_host, certificate) => checkName(name, certificate),
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const text = `tls.ca, tls.cert and tls.key must be the content of PEM files, cert and key given together: ${why}`;
    throw new TypeError(text, { cause: error });
  }
}

/** Node's check, which in some releases (22.23) knows no IPv6 address of any certificate. */
function checkName(name: string, certificate: PeerCertificate): Error | undefined {
  const isNamed = isIP(name) === 6 && new X509Certificate(certificate.raw).checkIP(name) !== undefined;
  return isNamed ? undefined : checkServerIdentity(name, certificate);
}

function pem(text: Uint8Array | string | undefined): Buffer | null {
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
