import type { NetConnectOpts } from 'node:net';

/** Where an endpoint is, and whether to speak TLS. */
export interface Address {
  /** In the form gRPC takes: `HOST:PORT`, or `unix:PATH`. */
  readonly target: string;
  /** In the form `net.connect` takes. */
  readonly place: NetConnectOpts;
  /** The host's name or IP address; `localhost` for a Unix socket. */
  readonly host: string;
  readonly secure: boolean;
}

const HOST_AND_PORT = /^(\[[0-9a-fA-F:.%]+\]|[^:/?#\s[\]]+):(\d{1,5})$/;

/** Reads `http://host:port`, `https://host:port`, `host:port`, `unix:///path` and `unixs:///path`. Throws TypeError. */
export function parseEndpoint(endpoint: unknown, tls: boolean): Address {
  if (typeof endpoint !== 'string')
    throw new TypeError(`an endpoint must be a string, not ${String(endpoint)}`);
  const socket = /^(unixs?):(?:\/\/)?(.+)$/.exec(endpoint);
  if (socket !== null) {
    const [, scheme, path = ''] = socket;
    return { host: 'localhost', place: { path }, secure: scheme === 'unixs', target: `unix:${path}` };
  }
  const parts = /^(?:(https?):\/\/)?(.*?)\/?$/.exec(endpoint);
  const hostAndPort = HOST_AND_PORT.exec(parts?.[2] ?? '');
  const port = Number(hostAndPort?.[2]);
  if (parts === null || hostAndPort === null || port < 1 || port > 65_535) {
    throw new TypeError(
      // Somebody may have put a password there.
      `endpoint ${JSON.stringify(endpoint.replace(/[^/]*@/, '…@'))} is not one: give http://HOST:PORT, https://HOST:PORT, HOST:PORT or unix:///PATH`,
    );
  }
  const host = hostAndPort[1]?.replace(/^\[(.*)\]$/, '$1') ?? '';
  const secure = parts[1] === undefined ? tls : parts[1] === 'https';
  return { host, place: { host, port }, secure, target: parts[2] ?? '' };
}
