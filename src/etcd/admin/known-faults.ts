/** What is known to be wrong in releases of etcd, and which of it a version has. */

/** Names a fault of etcd's. */
export type KnownFaultId =
  'keepalive-of-revoked-lease' | 'txn-applied-in-part' | 'stale-read-after-pause' | 'watch-beyond-permission';

/** A fault that a server has, by its version. */
export interface KnownFault {
  readonly id: KnownFaultId;
  /** What can happen, in a sentence. */
  readonly what: string;
  /** The first release of each line without it, the oldest first. Older lines have it, newer ones do not. */
  readonly fixedIn: readonly string[];
  /** What to do about it, beside what `fixedIn` says. */
  readonly advice: string;
  /** Who has it, in the order of the client's endpoints: they may differ while a cluster is upgraded. */
  readonly members: readonly FaultyMember[];
}

/** A member with a fault. */
export interface FaultyMember {
  readonly endpoint: string;
  /** As the member says it, for instance `3.5.16`. */
  readonly version: string;
}

type Fault = Omit<KnownFault, 'members'>;

const FAULTS: readonly Fault[] = [
  {
    id: 'keepalive-of-revoked-lease',
    what: 'A keepalive can be answered with success for a lease that has been revoked (etcd #20615).',
    fixedIn: ['3.4.38', '3.5.23', '3.6.5'],
    advice:
      'Upgrade. Sessions ask for their lease after each keepalive; who keeps leases alive without one asks `timeToLive`.',
  },
  {
    id: 'txn-applied-in-part',
    what: 'A transaction that writes can be applied in part.',
    fixedIn: ['3.5.17'],
    advice: 'Upgrade.',
  },
  {
    id: 'stale-read-after-pause',
    what: 'A linearizable read can be answered with an older state after a pause.',
    fixedIn: ['3.5.28', '3.6.9'],
    advice: 'Upgrade. What a write depends on is safe as a compare in its own transaction.',
  },
  {
    id: 'watch-beyond-permission',
    what: 'A watch can be sent events of keys that its user may not read.',
    fixedIn: ['3.5.33', '3.6.14', '3.7.1'],
    advice: 'Upgrade, or keep what users must not see of one another in clusters of their own.',
  },
];

/** How the embedded server marks its version: it is as that etcd is, without being that etcd. */
const NOT_ETCD = 'conclave';

/** A release of etcd 3: its line, its number in that line, and whether it came before that. */
interface Release {
  readonly minor: number;
  readonly patch: number;
  readonly isPreRelease: boolean;
}

/** What is known to be wrong in etcd of this version. Nothing is, of what is no version of etcd 3. */
export function faultsOf(version: string): readonly Fault[] {
  const release = releaseOf(version);
  return release === undefined ? [] : FAULTS.filter(({ fixedIn }) => isBefore(release, fixedIn));
}

/** Which of these members have what fault. */
export function knownFaultsOf(members: readonly FaultyMember[]): readonly KnownFault[] {
  return FAULTS.map((fault) => ({
    ...fault,
    members: members.filter(({ version }) => faultsOf(version).includes(fault)),
  })).filter((fault) => fault.members.length > 0);
}

function releaseOf(version: string): Release | undefined {
  const [, minor, patch, pre, build] = /^3\.(\d+)\.(\d+)(-[\w.-]+)?(?:\+([\w.-]+))?$/.exec(version) ?? [];
  if (minor === undefined || patch === undefined || build === NOT_ETCD) return undefined;
  return { isPreRelease: pre !== undefined, minor: Number(minor), patch: Number(patch) };
}

/** Whether a release is older than the fix in its line; than that of the newest line, if its own has none. */
function isBefore(release: Release, fixedIn: readonly string[]): boolean {
  const fixes = fixedIn.map(releaseOf);
  const fix = fixes.find((each) => each?.minor === release.minor) ?? fixes.at(-1);
  if (fix === undefined) return false;
  if (release.minor !== fix.minor) return release.minor < fix.minor;
  return release.patch < fix.patch || (release.patch === fix.patch && release.isPreRelease);
}
