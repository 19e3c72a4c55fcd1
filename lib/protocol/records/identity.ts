/**
 * The hashes and messages of a record: each covers all that came before it, so nothing can be moved to another record or be
 * replaced for free.
 *
 * `body hash` (head, value by its hash) ← claims ← work ← `identity` ← the owner's signature.
 *
 * Were a claim not under the work, who knows a name could sign it again and have another record for the same work; were the difficulty
 * not, one solution would be as many records as there are lower difficulties.
 */
import { lengthPrefixed, sha256, uint64, utf8 } from '../encoding.ts';
import { encodeHead, encodePermit } from './codec.ts';
import { type DagRecord, type RecordHead, type RecordValue, valueLength } from './format.ts';

/** 32 bytes, the same whether the value is there or pruned. */
export function bodyHash(head: RecordHead, value: RecordValue): Uint8Array {
  const hash = value.kind === 'whole' ? sha256(value.bytes) : value.hash;
  return tagged('dstack/v1/record-body', encodeHead(head), uint64(valueLength(value)), hash);
}

/** What each claim key signs. */
export function claimMessage(body: Uint8Array): Uint8Array {
  return lengthPrefixed([utf8('dstack/v1/record-claim'), body]);
}

/** What work is done over, 32 bytes. @param difficulty see Permit */
export function workSeed(body: Uint8Array, claims: readonly Uint8Array[], difficulty: number): Uint8Array {
  return tagged('dstack/v1/record-work', body, lengthPrefixed(claims), uint64(difficulty));
}

/** The name of a record for links, stores and peers: 32 bytes. */
export function recordId(record: DagRecord): Uint8Array {
  return idFrom(bodyHash(record, record.value), record);
}

/** `recordId` for whoever has the body's hash already. */
export function idFrom(
  body: Uint8Array,
  { claims, permit }: Pick<DagRecord, 'claims' | 'permit'>,
): Uint8Array {
  return tagged('dstack/v1/record', body, lengthPrefixed(claims), encodePermit(permit));
}

/** What the owner signs. */
export function ownerMessage(id: Uint8Array): Uint8Array {
  return lengthPrefixed([utf8('dstack/v1/record-signature'), id]);
}

/** The same record, its value thrown away: with the same identity and good under the same signatures. */
export function withoutValue(record: DagRecord): DagRecord {
  const { value } = record;
  if (value.kind === 'pruned') return record;
  return { ...record, value: { kind: 'pruned', length: value.bytes.length, hash: sha256(value.bytes) } };
}

function tagged(domain: string, ...parts: Uint8Array[]): Uint8Array {
  return sha256(lengthPrefixed([utf8(domain), ...parts]));
}
