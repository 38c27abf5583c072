/** The transaction by which a Leasing writes: done only if each key that it may write is owned by nobody, or by us. */
import { compare } from '../etcd/kv/compare.js';
import type { GetAnswer, OpResult, TxnOutcome, TxnResult } from '../etcd/kv/kv-results.js';
import { op, type Op, txnRequest, type TxnSpec } from '../etcd/kv/op.js';
import type { OwnedKey } from './owned-key.js';
import { keyBytes, type KeyId, type OwnershipKeys } from './ownership-keys.js';

type WireSteps = ReturnType<typeof txnRequest>['success'];

/** What came of a write. */
export type WriteOutcome =
  | {
      readonly is: 'done';
      readonly outcome: TxnOutcome;
      /** What our keys are now, in their order. */
      readonly owned: readonly GetAnswer[];
    }
  | {
      readonly is: 'refused';
      /** The ownership keys that are there, by their create revisions. */
      readonly there: ReadonlyMap<KeyId, bigint>;
    };

/** The keys that a transaction may write. Throws TypeError for a deletion of more than one key. */
export function writtenKeys(spec: TxnSpec, keys: OwnershipKeys): KeyId[] {
  const found = new Set<KeyId>();
  const look = (steps: WireSteps): void => {
    for (const { requestDeleteRange, requestPut, requestTxn } of steps) {
      if (requestDeleteRange?.rangeEnd !== undefined)
        throw new TypeError('a leasing transaction deletes single keys only: nobody owns a range');
      const key = requestPut?.key ?? requestDeleteRange?.key;
      if (key !== undefined) found.add(keys.idOf(key));
      look([...(requestTxn?.success ?? []), ...(requestTxn?.failure ?? [])]);
    }
  };
  const { failure, success } = txnRequest(spec);
  look([...success, ...failure]);
  return [...found];
}

/** `spec` under the guards of all the keys that it may write. Refused, it asks whoever owns them to give them back. */
export class GuardedWrite {
  readonly #ids: readonly KeyId[];
  readonly #owned: readonly OwnedKey[];
  /** As it is sent. */
  readonly spec: TxnSpec;

  constructor(
    spec: TxnSpec,
    ids: readonly KeyId[],
    { keys, owned }: { readonly keys: OwnershipKeys; readonly owned: readonly OwnedKey[] },
  ) {
    this.#ids = ids;
    this.#owned = owned;
    const ours = new Map(owned.map((each) => [each.id, each.createRevision]));
    const others = ids.filter((id) => !ours.has(id));
    this.spec = {
      else: [...others.map((id) => askFor(keys.of(id))), ...ids.map((id) => op.get(keys.of(id)))],
      if: ids.map((id) => compare.createRevision(keys.of(id), '=', ours.get(id) ?? 0n)),
      then: [op.txn(spec), ...owned.map(({ id }) => op.get(keyBytes(id)))],
    };
  }

  outcome({ responses, succeeded }: TxnResult): WriteOutcome {
    if (succeeded) {
      const [outcome, ...owned] = responses;
      if (outcome?.type !== 'txn') throw new TypeError('etcd has answered other steps than it was asked for');
      return { is: 'done', outcome, owned: owned.filter(isGet) };
    }
    const gets = responses.slice(this.#ids.length - this.#owned.length).filter(isGet);
    const there = new Map<KeyId, bigint>();
    for (const [at, id] of this.#ids.entries()) {
      const own = gets[at]?.kvs[0];
      if (own !== undefined) there.set(id, own.createRevision);
    }
    return { is: 'refused', there };
  }
}

/** Writes the ownership key as it is, on its lease, if nobody has done so yet: by its version its owner knows. */
function askFor(ownKey: Uint8Array): Op {
  return op.txn({
    if: [compare.version(ownKey, '=', 1n)],
    then: [op.put(ownKey, '', { ignoreLease: true, ignoreValue: true })],
  });
}

function isGet(answer: OpResult): answer is GetAnswer {
  return answer.type === 'get';
}
