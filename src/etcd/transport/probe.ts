/**
 * Finds out what speaks at an endpoint to which gRPC cannot connect, by the first bytes it answers with. gRPC tells that
 * it failed, but seldom why.
 */
import { connect, type NetConnectOpts } from 'node:net';

import { onAbort } from '../../util/abort.js';
import type { Clock } from '../../util/clock.js';
import { Deferred } from '../../util/deferred.js';
import type { Address } from './address.js';

/** The limits of a probe, which ends by itself after half a second. */
interface ProbeLimits {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

const PROBE_MS = 500;
/** A TLS 1.2 ClientHello with nothing in it. TLS answers or refuses it in TLS; whatever else answers shows what it is. */
const TLS_HELLO = Buffer.from(`160301002d010000290303${'00'.repeat(32)}000002c02f0100`, 'hex');
/** The preface of HTTP/2 with empty settings, which HTTP/2 answers with its own. */
const HTTP2_HELLO = Buffer.from(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0`, 'latin1');
/** A frame's header: what the first one of HTTP/2 must be told by (RFC 9113, 3.4). */
const FRAME_BYTES = 9;
const SETTINGS = 4;

/**
 * What is wrong with an endpoint, as a sentence; undefined when nothing is proven. gRPC has tried what the endpoint's
 * scheme asks for, so the server is greeted the other way.
 */
export async function findMisfit(address: Address, limits: ProbeLimits): Promise<string | undefined> {
  const { secure, target } = address;
  const answer = await firstBytes(address.place, secure ? HTTP2_HELLO : TLS_HELLO, limits);
  if (answer.length === 0) return undefined;
  const server = `the server at ${target}`;
  const isHttp2 = answer[3] === SETTINGS;
  // A server of TLS may answer the wrong greeting in plain HTTP/1, so nothing else is proof.
  if (secure) return isHttp2 ? `${server} does not speak TLS: use ${url(target, 'http')}` : undefined;
  if (isHttp2) return undefined;
  const [first, second] = answer;
  if ((first === 0x15 || first === 0x16) && second === 3)
    return `${server} speaks TLS: use ${url(target, 'https')}`;
  const text = answer.toString('latin1');
  const speaks = text.startsWith('HTTP/') ? 'speaks HTTP/1' : `answers ${JSON.stringify(text.slice(0, 20))}`;
  return `${server} ${speaks}, not gRPC; is it the client port of an etcd v3 server?`;
}

function url(target: string, scheme: 'http' | 'https'): string {
  const path = /^unix:(.*)$/.exec(target)?.[1];
  if (path === undefined) return `${scheme}://${target}`;
  return scheme === 'https' ? `unixs://${path}` : `unix://${path} without the option tls`;
}

/** The first bytes a server answers `greeting` with: as many as a frame's header has, or fewer if it says no more. */
async function firstBytes(
  place: NetConnectOpts,
  greeting: Buffer,
  { clock, signal }: ProbeLimits,
): Promise<Buffer> {
  const closed = new Deferred<void>();
  let answer = Buffer.alloc(0);
  const socket = connect(place, () => socket.write(greeting));
  const timer = clock.setTimer(PROBE_MS, () => socket.destroy());
  const stopListening = onAbort(signal, () => socket.destroy());
  socket.on('data', (part: Buffer) => {
    answer = Buffer.concat([answer, part]);
    if (answer.length >= FRAME_BYTES) socket.destroy();
  });
  socket.on('error', () => undefined); // It closes, too.
  socket.on('close', () => closed.resolve());
  await closed.promise;
  timer.cancel();
  stopListening();
  return answer;
}
