/** The calls on one key as steps of a shared transaction: how each is asked for, and how its answer is read. */
import type {
  DeleteRangeRequestInput,
  PutRequestInput,
  RangeRequestInput,
} from '../../proto/messages.gen.js';
import type { Step } from './batcher.js';
import type { Name } from './calls.js';
import type { CallOptions } from '../transport/call.js';
import { KeyValue } from './key-value.js';
import type { DeleteResult, PutResult } from './kv-results.js';
import { inJson } from '../../util/shown.js';

/** What a step has from its call: how to make it by itself, and how errors name it. */
interface Origin<Result> {
  readonly name: Name;
  readonly alone: (options: CallOptions) => Promise<Result>;
}

/** A step's own bytes beside key and value, roughly. */
const FRAME_BYTES = 32;
const NOTHING = new Uint8Array(0);

/** A read of one key. */
export function getStep(
  request: RangeRequestInput,
  origin: Origin<KeyValue | undefined>,
): Step<KeyValue | undefined> {
  const { key = NOTHING } = request;
  return {
    ...origin,
    answer: ({ responseRange }) => {
      const [kv] = responseRange?.kvs ?? [];
      return kv === undefined ? undefined : new KeyValue(kv);
    },
    // A transaction is answered by the member alone only if all of it may be.
    group: request.serializable === true ? 'serializable' : 'linearizable',
    key,
    request: { requestRange: request },
    size: key.length + FRAME_BYTES,
  };
}

/** A write of one key. */
export function putStep(request: PutRequestInput, origin: Origin<PutResult>): Step<PutResult> {
  const { key = NOTHING, value = NOTHING } = request;
  return {
    ...origin,
    answer: ({ responsePut }, revision) => {
      const previous = responsePut?.prevKv ?? undefined;
      return inJson({ previous: previous === undefined ? undefined : new KeyValue(previous), revision });
    },
    group: '',
    key,
    request: { requestPut: request },
    size: key.length + value.length + FRAME_BYTES,
  };
}

/** A deletion of one key. */
export function deleteStep(
  request: DeleteRangeRequestInput,
  origin: Origin<DeleteResult>,
): Step<DeleteResult> {
  const { key = NOTHING } = request;
  return {
    ...origin,
    answer: ({ responseDeleteRange }, revision) =>
      inJson({
        deleted: responseDeleteRange?.deleted ?? 0n,
        previous: (responseDeleteRange?.prevKvs ?? []).map((kv) => new KeyValue(kv)),
        revision,
      }),
    group: '',
    key,
    request: { requestDeleteRange: request },
    size: key.length + FRAME_BYTES,
  };
}
