import type { NetConnectOpts } from 'node:net';
import path from 'node:path';

/** Where an endpoint is, and whether to speak TLS. */
export interface Address {
  /** In the form gRPC takes: `HOST:PORT`, or `unix:PATH`. */
  readonly target: string;
  /** In the form `net.connect` takes. */
  readonly place: NetConnectOpts;
  /** The host's name or IP address; `localhost` for a Unix socket. */
  readonly host: string;
  /** Of a Unix socket: the other name that a certificate may have, which is the one that Go's client looks for. */
  readonly socketName?: string;
  readonly secure: boolean;
}

const HOST_AND_PORT = /^(\[[0-9a-fA-F:.%]+\]|[^:/?#\s[\]]+):(\d{1,5})$/;
/** A host's name has no comma; a path may. */
const SEVERAL = /^(?!unixs?:).*,|,\s*(unixs?|https?):/;

/**
 * Reads `http://host:port`, `https://host:port`, `host:port`, `unix:///path` and `unixs:///path`; what names no scheme of TLS
 * nor of plain text speaks TLS if `tls` is there, as etcdctl does. Throws TypeError.
 */
export function parseEndpoint(endpoint: unknown, tls: boolean): Address {
  if (typeof endpoint !== 'string')
    throw new TypeError(`an endpoint must be a string, not ${String(endpoint)}`);
  if (SEVERAL.test(endpoint))
    throw new TypeError(`endpoint ${inWords(endpoint)} is not one: give several as an array, ['…', '…']`);
  const socket = /^(unixs?):(?:\/\/)?(.+)$/.exec(endpoint);
  if (socket !== null) {
    const [, scheme, file = ''] = socket;
    const socketName = path.basename(file).replace(/:\d*$/, '');
    const secure = tls || scheme === 'unixs';
    return { host: 'localhost', place: { path: file }, secure, socketName, target: `unix:${file}` };
  }
  const parts = /^(?:(https?):\/\/)?(.*?)\/?$/.exec(endpoint);
  const hostAndPort = HOST_AND_PORT.exec(parts?.[2] ?? '');
  const port = Number(hostAndPort?.[2]);
  if (parts === null || hostAndPort === null || port < 1 || port > 65_535) {
    throw new TypeError(
      `endpoint ${inWords(endpoint)} is not one: give http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:///PATH`,
    );
  }
  const host = hostAndPort[1]?.replace(/^\[(.*)\]$/, '$1') ?? '';
  const secure = parts[1] === undefined ? tls : parts[1] === 'https';
  return { host, place: { host, port }, secure, target: parts[2] ?? '' };
}

/** Without the password that somebody may have put there. */
function inWords(endpoint: string): string {
  return JSON.stringify(endpoint.replaceAll(/[^/,]*@/g, '…@'));
}
