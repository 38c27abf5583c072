/**
 * The table of what can come back for a call beside a reply: what is known of it then, and what it is called. The caller's
 * error follows from it and from the kind of call, as docs/errors.md shows ("What an error says of a write").
 *
 * The first row that fits counts. What does not carry one of etcd's own texts is not etcd's answer: from an endpoint that
 * has been etcd before it says nothing of the call, and passes.
 */
import type { ErrorCode, StatusName } from '../../errors/codes.js';
import { etcdCode } from '../../errors/etcd-words.js';
import { type FateName, fateOfEtcd } from '../../errors/fates.js';

/** How a call ended, as far as it is seen here. */
export interface Ending {
  readonly status: StatusName;
  readonly details: string;
  /** Whether the request may have reached the server; undefined when only gRPC's words tell. */
  readonly left: boolean | undefined;
  /** Whether etcd has answered at this endpoint before. */
  readonly wasEtcd: boolean;
  /** What is known to speak at the endpoint instead of etcd, as a sentence. */
  readonly misfit: string | undefined;
  readonly url: string;
}

/** What an ending means. */
export interface Verdict {
  readonly code: ErrorCode;
  readonly fate: FateName;
  /** What happened, for the error's message. */
  readonly text: string;
}

/** A row of the table. */
interface Row extends Pick<Verdict, 'code' | 'fate'> {
  /** What comes back, in words. */
  readonly answer: string;
  readonly when: (ending: Ending) => boolean;
  readonly text: (ending: Ending) => string;
}

/** gRPC's words for a call that never left this process. */
const STAYED_HERE =
  /No connection established|Name resolution failed|Channel closed before call started|refused by server/;
const TLS_TROUBLE =
  /\btls\.(ca|cert|key)|certificate|self.signed|SSL routines|tlsv1 alert|ERR_SSL|ERR_TLS|Hostname\/IP does not match|unknown ca|bad_certificate/i;
/** What OpenSSL makes of an answer that is not TLS, and of a server that refuses to speak HTTP/2. */
const NOT_TLS = /SSL routines:.*:(wrong version number|http request|packet length too long)/;
const NOT_HTTP2 = /alert no application protocol/;
/** What gRPC servers say of a service or method that they do not have. */
const NO_SUCH_CALL = /^unknown (service|method)\b|does not implement the method/;
const HTTP_STATUS = /^Received HTTP status code (\d+)/;
/** The statuses of a server that does not take a call. */
const REFUSALS: ReadonlySet<StatusName> = new Set<StatusName>([
  'ALREADY_EXISTS',
  'FAILED_PRECONDITION',
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'OUT_OF_RANGE',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'UNIMPLEMENTED',
]);

/** The row of what fits no other. */
const ANYTHING_ELSE: Row = {
  answer: 'anything else: a cut, RST_STREAM, GOAWAY, an HTTP or gRPC status in other words',
  code: 'UNAVAILABLE',
  fate: 'unknown',
  text: ({ details, status, url }) =>
    `${url}: ${status === 'UNAVAILABLE' ? inOneLine(details) : `${status} ${details}`}`,
  when: () => true,
};

/** Endings that are not etcd's word. */
export const FOREIGN: readonly Row[] = [
  {
    answer: 'not sent: the endpoint is something else',
    code: 'NOT_ETCD',
    fate: 'refused',
    text: ({ misfit = '' }) => misfit,
    when: (ending) => stayed(ending) && ending.misfit !== undefined,
  },
  {
    answer: 'not sent: no TLS there',
    code: 'NOT_ETCD',
    fate: 'refused',
    text: ({ url }) => `${url} does not speak TLS; if it is etcd, use http://`,
    when: (ending) => stayed(ending) && NOT_TLS.test(ending.details),
  },
  {
    answer: 'not sent: no HTTP/2 there',
    code: 'NOT_ETCD',
    fate: 'refused',
    text: ({ url }) => `${url} speaks TLS, but no HTTP/2: it is not an etcd v3 server`,
    when: (ending) => stayed(ending) && NOT_HTTP2.test(ending.details),
  },
  {
    answer: 'not sent: TLS failed',
    code: 'TLS_FAILED',
    fate: 'refused',
    text: tlsFailed,
    when: (ending) => !ending.wasEtcd && stayed(ending) && TLS_TROUBLE.test(ending.details),
  },
  {
    answer: 'not sent: TLS failed, where etcd has answered before',
    code: 'UNAVAILABLE',
    fate: 'notNow',
    text: tlsFailed,
    when: (ending) => stayed(ending) && TLS_TROUBLE.test(ending.details),
  },
  {
    answer: 'not sent: no connection, or refused by RST_STREAM 7',
    code: 'UNAVAILABLE',
    fate: 'notNow',
    text: ({ details, url }) => `${url}: ${inOneLine(details)}`,
    when: (ending) => stayed(ending),
  },
  {
    answer: 'the request is larger than the server takes',
    code: 'REQUEST_TOO_LARGE',
    fate: 'refused',
    text: ({ details }) => `${details}; etcd takes 1.5 MiB by default`,
    when: ({ details, status }) =>
      status === 'RESOURCE_EXHAUSTED' &&
      /received message larger than max|^Received message larger/.test(details),
  },
  {
    answer: 'the reply is larger than the server sends',
    code: 'ETCD',
    fate: 'unsettled',
    text: ({ details, url }) => `${url}: ${details}`,
    when: ({ details, status }) =>
      status === 'RESOURCE_EXHAUSTED' && /send message larger than max/.test(details),
  },
  {
    answer: 'the server does not know the call',
    code: 'NOT_ETCD',
    fate: 'refused',
    text: ({ details, url, wasEtcd }) =>
      `${url} does not know this call (${details}); ${wasEtcd ? 'a later etcd does' : 'is it an etcd v3 server?'}`,
    when: ({ details, status, wasEtcd }) =>
      status === 'UNIMPLEMENTED' && (NO_SUCH_CALL.test(details) || (!wasEtcd && !HTTP_STATUS.test(details))),
  },
  {
    answer: 'HTTP 4xx, where etcd has not answered before',
    code: 'NOT_ETCD',
    fate: 'refused',
    text: notLikeEtcd,
    when: ({ details, status, wasEtcd }) =>
      !wasEtcd && status !== 'UNAVAILABLE' && (HTTP_STATUS.exec(details)?.[1]?.startsWith('4') ?? false),
  },
  {
    answer: 'another HTTP status, where etcd has not answered before',
    code: 'NOT_ETCD',
    fate: 'unsettled',
    text: notLikeEtcd,
    when: ({ details, status, wasEtcd }) => !wasEtcd && status !== 'UNAVAILABLE' && HTTP_STATUS.test(details),
  },
  {
    answer: 'a refusal in other words, where etcd has not answered before',
    code: 'ETCD',
    fate: 'unsettled',
    text: ({ details, status, url }) => `${url}: ${status} ${details}`,
    when: ({ status, wasEtcd }) => !wasEtcd && REFUSALS.has(status),
  },
  ANYTHING_ELSE,
];

/** What an ending means. */
export function verdictOf(ending: Ending): Verdict {
  const { details, status } = ending;
  const code = etcdCode(details);
  if (code !== undefined) {
    const fate = fateOfEtcd(code, { message: details, status });
    return { code, fate, text: `etcd says: ${details.replace(/^etcdserver: /, '')}` };
  }
  const row = FOREIGN.find(({ when }) => when(ending)) ?? ANYTHING_ELSE;
  return { code: row.code, fate: row.fate, text: row.text(ending) };
}

/** Whether the request has not reached the server. */
function stayed({ details, left, status }: Ending): boolean {
  return left === undefined ? status === 'UNAVAILABLE' && STAYED_HERE.test(details) : !left;
}

function tlsFailed({ details, url }: Ending): string {
  return `TLS with ${url} failed: ${inOneLine(details)}; check tls.ca, tls.cert and the name in the server's certificate`;
}

function notLikeEtcd({ details, url }: Ending): string {
  return `${url} does not answer as an etcd v3 server: ${details}`;
}

/** gRPC's sentence in one line, without its internal notes and OpenSSL's places in its source. */
function inOneLine(details: string): string {
  return details
    .replace(/ ?Resolution note:.*$/s, '')
    .replace(/^.*No connection established\. Last error: (Error( \[\w+\])?: )?/s, 'cannot connect: ')
    .replace(/\w+:error:\w+:([^:]+):[^:]*:([^:]+):\S+/, '$1: $2')
    .replaceAll(/\s*\n\s*/g, ' ')
    .replace(/[\s.]+$/, '');
}
