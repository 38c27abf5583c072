/** How far a mirror has come, as it stands in a key of the target. */
import { ConclaveError } from '../../errors/conclave-error.js';

/** Where a mirror is. Everything but `copied` and `part` is the source's. */
export interface Progress {
  /** `copying`: up to `copied`, the keys are those of `revision`. `following`: all of them are. */
  readonly phase: 'copying' | 'following';
  readonly cluster: bigint;
  readonly prefix: string;
  /** Which copy it is, or follows on: a revision alone is not known again in another history. */
  readonly copy: string;
  /** Who wrote it: one stretch of one run of a mirror, which writes nothing twice. */
  readonly by: string;
  readonly revision: bigint;
  /** The last key that was copied, without the prefix. */
  readonly copied?: Buffer | undefined;
  /** So many events of the revision that follows are there already: it has more than one transaction takes. */
  readonly part?: { readonly revision: bigint; readonly events: number } | undefined;
}

/** As it is stored. */
export function progressText(progress: Progress): string {
  const { by, cluster, copied, copy, part, phase, prefix, revision } = progress;
  return JSON.stringify({
    phase,
    revision: String(revision),
    copied: copied?.toString('base64'),
    part: part && { revision: String(part.revision), events: part.events },
    source: { cluster: String(cluster), prefix },
    copy,
    by,
  });
}

/** Reads what `progressText` wrote. Throws `MISMATCH` for anything else. */
export function readProgress(text: string, key: string): Progress {
  try {
    return parsed(JSON.parse(text) as Stored);
  } catch (cause) {
    const says = `${JSON.stringify(key)} holds what no mirror wrote: give the mirror another progressKey, or delete it`;
    throw new ConclaveError('MISMATCH', says, { cause, key });
  }
}

/** What JSON makes of it. */
interface Stored {
  readonly phase: unknown;
  readonly revision: string;
  readonly copied?: string;
  readonly part?: { readonly revision: string; readonly events: number };
  readonly source: { readonly cluster: string; readonly prefix: string };
  readonly copy: string;
  readonly by: string;
}

function parsed({ by, copied, copy, part, phase, revision, source }: Stored): Progress {
  if (phase !== 'copying' && phase !== 'following') throw new TypeError(`phase ${String(phase)}`);
  return {
    by,
    cluster: BigInt(source.cluster),
    copied: copied === undefined ? undefined : Buffer.from(copied, 'base64'),
    copy,
    part: part && { events: part.events, revision: BigInt(part.revision) },
    phase,
    prefix: source.prefix,
    revision: BigInt(revision),
  };
}
