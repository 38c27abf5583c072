/** The library's own warnings, for what nobody would hear of else: one line each, with a code to find or filter it by. */
export type WarningCode =
  | 'CONCLAVE_ETCD_KEEPALIVE'
  | 'CONCLAVE_NO_SESSION'
  | 'CONCLAVE_ON_ERROR_THREW'
  | 'CONCLAVE_SLOW_LINK'
  | 'CONCLAVE_WORKER_ENDED';

export function warn(code: WarningCode, text: string): void {
  process.emitWarning(text.replaceAll(/\s*\n\s*/g, ' '), { code, type: 'ConclaveWarning' });
}
