/** Random requests to one namespace, in the bare etcd's terms: sensible ones, ones at the edges, and ones that have to be refused. */
import type { DescMessage, DescMethodUnary, MessageInitShape } from '@bufbuild/protobuf';
import {
  type CompareSchema,
  KV,
  type PutRequestSchema,
  type RangeRequestSchema,
  type RequestOpSchema,
  type TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import type { Random } from '../../torture/random.ts';
import type { Names } from './side.ts';

/** A call to be made on both sides. */
export interface Asked {
  readonly method: DescMethodUnary;
  readonly request: (names: Names) => MessageInitShape<DescMessage>;
}

/** What the generator knows of the namespace. */
export interface Known {
  readonly revision: bigint;
  readonly compacted: bigint;
  readonly leases: number;
  /** Neither leases nor `prev_kv`, no transaction in another or without an operation, no compaction. */
  readonly plain?: boolean;
}

const KEYS = [
  ...['a', 'b', 'dir/1', 'dir/2', 'dir/2/x', 'dir/3', 'dir0', 'o/a', 'a/app/x', 'k/', 'x\0y', '\0', 'z'].map(
    (key) => Buffer.from(key),
  ),
  Buffer.from([0xff]),
  Buffer.from([0xff, 0xff, 0x01]),
  Buffer.alloc(200, 'long'),
];
/** Of transactions in transactions. */
const DEEPEST = 2;
const NOTHING = Buffer.alloc(0);
const ZERO = Buffer.from([0]);

/** Keeps the types of method and request together. */
export function asked<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: (names: Names) => MessageInitShape<I>,
): Asked {
  return { method, request } as unknown as Asked;
}

/** Of somebody whose roles count (`plain`) nothing that a bare etcd does not check: the store refuses it, and both would go apart. */
export function randomRequest(random: Random, known: Known, value: string): Asked {
  // Compaction and leases of others are the last of the kinds.
  const kind = random.between(0, known.plain ? 81 : 99);
  if (kind < 24) return asked(KV.method.put, putOf(random, known, value));
  if (kind < 52) return asked(KV.method.range, rangeOf(random, known));
  if (kind < 62) {
    const deletion = { ...someKeys(random), prevKv: random.chance(0.5) };
    return asked(KV.method.deleteRange, () => deletion);
  }
  if (kind < 82) return asked(KV.method.txn, txnOf(random, known, value, known.plain ? DEEPEST : 0));
  if (kind < 84) {
    const revision = someRevision(random, known);
    const physical = random.chance(0.3);
    return asked(KV.method.compact, (names) => ({ revision: names.revision(revision), physical }));
  }
  return leaseRequest(random, known);
}

/** One key, a prefix, all from a key on, all, two keys in any order, or none. */
export function someKeys(random: Random): { key: Uint8Array; rangeEnd: Uint8Array } {
  const key = random.pick(KEYS);
  const kind = random.between(0, 19);
  if (kind < 9) return { key, rangeEnd: NOTHING };
  if (kind < 12) return { key: Buffer.from('dir/'), rangeEnd: Buffer.from('dir0') };
  if (kind < 14) return { key, rangeEnd: ZERO };
  if (kind < 16) return { key: ZERO, rangeEnd: ZERO };
  if (kind < 19) return { key, rangeEnd: random.pick(KEYS) };
  return { key: NOTHING, rangeEnd: random.chance(0.5) ? ZERO : NOTHING };
}

/** Mostly one that is there; else the edges, the compacted, the future. */
function someRevision(random: Random, { revision, compacted }: Known): bigint {
  const kind = random.between(0, 9);
  if (kind < 5) return BigInt(random.between(Number(compacted), Number(revision)));
  return random.pick([0n, 1n, compacted, compacted + 1n, revision, revision + 1n, revision + 100n, -1n]);
}

/** Mostly none. */
function someLease(random: Random, { leases, plain }: Known): number {
  return !plain && random.chance(0.2) ? random.between(0, leases) : -1;
}

type For<Schema extends DescMessage> = (names: Names) => MessageInitShape<Schema>;

function putOf(random: Random, known: Known, value: string): For<typeof PutRequestSchema> {
  const key = random.chance(0.02) ? NOTHING : random.pick(KEYS);
  const lease = someLease(random, known);
  const ignoreValue = random.chance(0.07);
  const ignoreLease = random.chance(0.07);
  const size = random.chance(0.01) ? 1_600_000 : random.chance(0.05) ? 20_000 : 0;
  const bytes = ignoreValue && random.chance(0.7) ? NOTHING : Buffer.from(value.padEnd(size, '.'));
  const prevKv = !known.plain && random.chance(0.4);
  return (names) => ({
    key,
    value: bytes,
    prevKv,
    ignoreValue,
    ignoreLease,
    lease: lease === -1 ? 0n : names.lease(lease),
  });
}

function rangeOf(random: Random, known: Known): For<typeof RangeRequestSchema> {
  const bound = () => (random.chance(0.1) ? someRevision(random, known) : 0n);
  const [revision, ...bounds] = [
    random.chance(0.35) ? someRevision(random, known) : 0n,
    bound(),
    bound(),
    bound(),
    bound(),
  ] as [bigint, bigint, bigint, bigint, bigint];
  const plain = {
    ...someKeys(random),
    limit: random.chance(0.3) ? BigInt(random.between(-1, 5)) : 0n,
    sortOrder: random.chance(0.4) ? random.between(0, 2) : 0,
    sortTarget: random.chance(0.4) ? random.between(0, 4) : 0,
    serializable: random.chance(0.2),
    keysOnly: random.chance(0.15),
    countOnly: random.chance(0.1),
  };
  return (names) => ({
    ...plain,
    revision: names.revision(revision),
    minModRevision: names.revision(bounds[0]!),
    maxModRevision: names.revision(bounds[1]!),
    minCreateRevision: names.revision(bounds[2]!),
    maxCreateRevision: names.revision(bounds[3]!),
  });
}

function compareOf(random: Random, known: Known): For<typeof CompareSchema> {
  const result = random.between(0, 3);
  const keys = random.chance(0.8) ? { key: random.pick(KEYS), rangeEnd: NOTHING } : someKeys(random);
  const small = BigInt(random.between(0, 3));
  const revision = someRevision(random, known);
  const lease = random.between(0, known.leases);
  switch (random.between(0, 4)) {
    case 0:
      return () => ({ ...keys, result, target: 0, targetUnion: { case: 'version', value: small } });
    case 1:
      return (names) => ({
        ...keys,
        result,
        target: 1,
        targetUnion: { case: 'createRevision', value: names.revision(revision) },
      });
    case 2:
      return (names) => ({
        ...keys,
        result,
        target: 2,
        targetUnion: { case: 'modRevision', value: names.revision(revision) },
      });
    case 3: {
      const value = Buffer.from(random.pick(['', '1', 'x', 'zz']));
      return () => ({ ...keys, result, target: 3, targetUnion: { case: 'value', value } });
    }
    default: {
      // Which of two leases is greater is each server's choice.
      const equality = random.pick([0, 3]);
      return (names) => ({
        ...keys,
        result: equality,
        target: 4,
        targetUnion: { case: 'lease', value: lease === 0 ? 0n : names.lease(lease - 1) },
      });
    }
  }
}

/** Nested at most three deep; now and then more operations than are allowed, or one key twice. */
function txnOf(random: Random, known: Known, value: string, depth: number): For<typeof TxnRequestSchema> {
  const compares = Array.from({ length: random.between(0, 2) }, () => compareOf(random, known));
  const many = depth !== 1 && random.chance(0.02) ? 129 : 0;
  const branch = (name: string) =>
    Array.from({ length: Math.max(many, random.between(known.plain ? 1 : 0, 3)) }, (_, n) =>
      stepOf(random, known, `${value}${name}${n}`, depth),
    );
  const [success, failure] = [branch('s'), branch('f')];
  return (names) => ({
    compare: compares.map((make) => make(names)),
    success: success.map((make) => make(names)),
    failure: failure.map((make) => make(names)),
  });
}

function stepOf(random: Random, known: Known, value: string, depth: number): For<typeof RequestOpSchema> {
  const kind = random.between(0, 19);
  if (kind < 7) {
    const put = putOf(random, known, value);
    return (names) => ({ request: { case: 'requestPut', value: put(names) } });
  }
  if (kind < 12) {
    const range = rangeOf(random, known);
    return (names) => ({ request: { case: 'requestRange', value: range(names) } });
  }
  if (kind < 16 || depth >= DEEPEST) {
    // Where the end is open etcd does not see that a key is given twice, and may panic (see hostile.test.ts).
    const { key, rangeEnd } = someKeys(random);
    const prevKv = !known.plain && random.chance(0.5);
    const request = { key, rangeEnd: ZERO.equals(rangeEnd) ? NOTHING : rangeEnd, prevKv };
    return () => ({ request: { case: 'requestDeleteRange', value: request } });
  }
  if (kind < 19) {
    const txn = txnOf(random, known, value, depth + 1);
    return (names) => ({ request: { case: 'requestTxn', value: txn(names) } });
  }
  return () => ({ request: { case: undefined } });
}

function leaseRequest(random: Random, known: Known): Asked {
  const index = random.between(0, known.leases);
  switch (random.between(0, 5)) {
    case 0:
    case 1: {
      // Chosen by the client, and by every namespace the same, or by the server; of hours, so that none expires here.
      const ID = random.chance(0.5) ? BigInt(random.between(1, 12)) : 0n;
      const TTL = random.pick([1_000n, 5_000n, 20_000n, 900n, 10_000_000_000n]);
      return asked(Lease.method.leaseGrant, () => ({ ID, TTL }));
    }
    case 2:
      return asked(Lease.method.leaseRevoke, (names) => ({ ID: names.lease(index) }));
    case 3:
      return asked(Lease.method.leaseLeases, () => ({}));
    default: {
      const keys = random.chance(0.7);
      return asked(Lease.method.leaseTimeToLive, (names) => ({ ID: names.lease(index), keys }));
    }
  }
}
