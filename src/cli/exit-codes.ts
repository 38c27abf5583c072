/**
 * What the `conclave` command exits with. A command that ran to its end under a lock gives its own code, 128 + n when
 * signal n ended it; the rest are those of sysexits.h where it has one, so that they are told from a command's own.
 */
export const EXIT = {
  ok: 0,
  /** The answer is no: the demo saw a rule violated, there is no such name, nobody holds it, something is wrong. */
  no: 1,
  /** Unknown options, bad names, bad numbers, no command after "--" (EX_USAGE). */
  usage: 64,
  /** `migrate-v2` has left something out, which it names (EX_DATAERR). */
  incomplete: 65,
  /** No server answers, it is not etcd, or it refused us (EX_UNAVAILABLE). */
  server: 69,
  /** A bug of ours (EX_SOFTWARE). */
  internal: 70,
  /** Somebody else holds it, with -n or after -w; -E changes it (EX_TEMPFAIL: try again later). */
  conflict: 75,
  /** The lock or leadership was lost; the command was stopped. */
  lost: 79,
  /** The same, but some of what the command has started could not be stopped. */
  notStopped: 80,
  /** The command is there but cannot be run, as in a shell, or nobody can be started to watch over it. */
  notExecutable: 126,
  /** There is no such command, as in a shell. */
  notFound: 127,
} as const;

/** For the help pages. */
export const EXIT_CODES = `Exit codes: those of the command (128 + n when signal n ended it); ${EXIT.usage} bad usage, ${EXIT.server} no server
answers or it refuses us, ${EXIT.conflict} held by somebody else (-n, -w; changed by -E), ${EXIT.lost} the hold was lost and the
command stopped, ${EXIT.notStopped} the same but some of it could not be stopped, ${EXIT.notExecutable} the command cannot be run,
${EXIT.notFound} there is no such command, ${EXIT.internal} a bug of ours.`;
