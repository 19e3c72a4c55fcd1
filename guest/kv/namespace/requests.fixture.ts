/** Random requests of a hostile client, for tests: keys that look like prefixes and ends, every option, transactions in transactions. */
import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import {
  CompareSchema,
  DeleteRangeRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  type RequestOp,
  RequestOpSchema,
  type TxnRequest,
  TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';

/** Pieces of which keys are made, so that they meet each other's prefixes and ends. */
const piece = fc.constantFrom(
  '\0',
  'a',
  'b',
  '/',
  '0',
  'a/one/',
  'a/two/',
  'a/one0',
  'k/',
  'k/lease/',
  '\x7f',
  'o/',
);

export const anyKey = fc.oneof(
  { weight: 3, arbitrary: fc.array(piece, { minLength: 1, maxLength: 3 }).map((all) => utf8(all.join(''))) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 4 }) },
  { weight: 1, arbitrary: fc.constantFrom(Uint8Array.of(0xff), Uint8Array.of(0xff, 0xff), Uint8Array.of(0)) },
);

export const anyEnd = fc.oneof(
  { weight: 2, arbitrary: anyKey },
  { weight: 1, arbitrary: fc.constantFrom(new Uint8Array(), Uint8Array.of(0), Uint8Array.of(0, 0)) },
);

const revision = fc.bigInt({ min: -3n, max: 60n });
const lease = fc.constantFrom(0n, 1n, 7n, 8n, 2n ** 62n);
const flag = fc.boolean();

export const anyRange = fc
  .record({
    key: anyKey,
    rangeEnd: anyEnd,
    limit: fc.bigInt({ min: -1n, max: 5n }),
    revision,
    sortOrder: fc.constantFrom(0, 1, 2),
    sortTarget: fc.constantFrom(0, 1, 2, 3, 4),
    serializable: flag,
    keysOnly: flag,
    countOnly: flag,
    minModRevision: revision,
    maxModRevision: revision,
    minCreateRevision: revision,
    maxCreateRevision: revision,
  })
  .map((fields) => create(RangeRequestSchema, fields));

export const anyPut = fc
  .record({ key: anyKey, value: fc.uint8Array({ maxLength: 3 }), lease, prevKv: flag })
  .map((fields) => create(PutRequestSchema, fields));

export const anyDelete = fc
  .record({ key: anyKey, rangeEnd: anyEnd, prevKv: flag })
  .map((fields) => create(DeleteRangeRequestSchema, fields));

const anyCompare = fc
  .record({
    key: anyKey,
    rangeEnd: anyEnd,
    result: fc.constantFrom(0, 3),
    target: fc.constantFrom(0, 1, 2, 3, 4),
    targetUnion: fc.oneof(
      revision.map((value) => ({ case: 'version', value }) as const),
      revision.map((value) => ({ case: 'modRevision', value }) as const),
      lease.map((value) => ({ case: 'lease', value }) as const),
      fc.uint8Array({ maxLength: 2 }).map((value) => ({ case: 'value', value }) as const),
    ),
  })
  .map((fields) => create(CompareSchema, fields));

export const { anyTxn } = fc.letrec<{ anyTxn: TxnRequest; operation: RequestOp }>((tie) => ({
  operation: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    anyRange.map((value) => create(RequestOpSchema, { request: { case: 'requestRange', value } })),
    anyPut.map((value) => create(RequestOpSchema, { request: { case: 'requestPut', value } })),
    anyDelete.map((value) => create(RequestOpSchema, { request: { case: 'requestDeleteRange', value } })),
    tie('anyTxn').map((value) => create(RequestOpSchema, { request: { case: 'requestTxn', value } })),
  ),
  anyTxn: fc
    .record({
      compare: fc.array(anyCompare, { maxLength: 2 }),
      success: fc.array(tie('operation'), { maxLength: 3 }),
      failure: fc.array(tie('operation'), { maxLength: 2 }),
    })
    .map((fields) => create(TxnRequestSchema, fields)),
}));
