import { request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { Deferred } from '../util/deferred.js';
import { type TlsMaterial } from './certificates.js';

/** One request to etcd's HTTP side. */
export interface HttpCall {
  readonly url: string;
  /** Posted as JSON when given; else it is a GET. */
  readonly body?: unknown;
  readonly tls?: TlsMaterial | undefined;
  readonly timeoutMs?: number;
}

/** The status and text of the answer. Rejects when there is none. */
export async function httpCall({
  url,
  body,
  tls,
  timeoutMs = 5000,
}: HttpCall): Promise<{ status: number; text: string }> {
  const answer = new Deferred<{ status: number; text: string }>();
  const send = url.startsWith('https:') ? tlsRequest : plainRequest;
  const request = send(url, {
    method: body === undefined ? 'GET' : 'POST',
    agent: false,
    timeout: timeoutMs,
    ...(tls === undefined ? {} : { ca: tls.ca, cert: tls.cert, key: tls.key }),
  });
  request.on('timeout', () => request.destroy(new Error(`${url} did not answer in ${timeoutMs} ms`)));
  request.on('error', answer.reject);
  request.on('response', (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part: string) => (text += part));
    response.on('error', answer.reject);
    response.on('end', () => answer.resolve({ status: response.statusCode ?? 0, text }));
  });
  request.end(body === undefined ? undefined : JSON.stringify(body));
  return answer.promise;
}
