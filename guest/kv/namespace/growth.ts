/** By how much a request makes a namespace grow. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { RequestOpSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { OF_A_KEY, type Usage } from './usage.ts';

export type Operation = NonNullable<MessageInitShape<typeof RequestOpSchema>['request']>;

/** In bytes, as they are counted (usage.ts). */
export interface Growth {
  readonly put: number;
  /** Of what is there now under the same keys. */
  readonly replaced: number;
  /**
   * What etcd writes at most, whether or not the namespace is larger after: the database takes it, and watchers are told of it. Of a
   * transaction that may be another branch than the one by which it grows.
   */
  readonly written: number;
}

const NONE: Growth = { put: 0, replaced: 0, written: 0 };
const plus = (a: Growth, b: Growth): Growth => ({
  put: a.put + b.put,
  replaced: a.replaced + b.replaced,
  written: a.written + b.written,
});

/** What the puts of a request, which is etcd's already, come to; of a transaction those of the branch by which it grows more. */
export function growthOf(usage: Usage, request: Operation): Growth {
  if (request.case === 'requestPut') {
    const { key = new Uint8Array(), value, ignoreValue } = request.value;
    const replaced = usage.sizeOf(key);
    const put = ignoreValue ? replaced : key.length + (value?.length ?? 0) + OF_A_KEY;
    return { put, replaced, written: put };
  }
  if (request.case !== 'requestTxn') return NONE;
  const [success, failure] = [request.value.success, request.value.failure].map((branch = []) =>
    branch.reduce((sum, { request: one }) => (one?.case ? plus(sum, growthOf(usage, one)) : sum), NONE),
  ) as [Growth, Growth];
  const larger = success.put - success.replaced > failure.put - failure.replaced ? success : failure;
  return { ...larger, written: Math.max(success.written, failure.written) };
}
