/**
 * Votes and proposals, as nodes send them to be signed (cometbft `types.proto`), and the versions of the protocol: what a request holds
 * does not tell them apart, so it is configured.
 */
import type { ProtocolVersion } from '../protocol/signer-part.ts';
import { malformed, Reader, Writer } from './wire.ts';

export { PROTOCOL_VERSIONS, type ProtocolVersion } from '../protocol/signer-part.ts';

/** Whether votes have extensions. */
export function hasExtensions(version: ProtocolVersion): boolean {
  return version !== 'v0.34' && version !== 'v0.37';
}

export const PREVOTE = 1;
export const PRECOMMIT = 2;
export const PROPOSAL = 32;

/** Seconds since 1970, and nanoseconds of a second. */
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}

/** Go's zero time, 0001-01-01T00:00:00Z: what a timestamp that is not there means. */
export const ZERO_TIME: Timestamp = { seconds: -62_135_596_800n, nanos: 0 };
/** 9999-12-31T23:59:59Z. */
const LAST_SECOND = 253_402_300_799n;

export interface BlockId {
  readonly hash: Uint8Array;
  readonly parts: { readonly total: number; readonly hash: Uint8Array };
}

export interface Vote {
  readonly type: number;
  readonly height: bigint;
  readonly round: number;
  readonly blockId: BlockId;
  readonly timestamp: Timestamp;
  readonly validatorAddress: Uint8Array;
  readonly validatorIndex: number;
  readonly signature: Uint8Array;
  readonly extension: Uint8Array;
  readonly extensionSignature: Uint8Array;
}

export interface Proposal {
  readonly type: number;
  readonly height: bigint;
  readonly round: number;
  /** -1 where there is none. */
  readonly polRound: number;
  readonly blockId: BlockId;
  readonly timestamp: Timestamp;
  readonly signature: Uint8Array;
}

const NOTHING = new Uint8Array();
export const NIL_BLOCK: BlockId = { hash: NOTHING, parts: { total: 0, hash: NOTHING } };

/** Go's zero value. */
export const NO_VOTE: Vote = {
  type: 0,
  height: 0n,
  round: 0,
  blockId: NIL_BLOCK,
  timestamp: ZERO_TIME,
  validatorAddress: NOTHING,
  validatorIndex: 0,
  signature: NOTHING,
  extension: NOTHING,
  extensionSignature: NOTHING,
};

/** Go's zero value. */
export const NO_PROPOSAL: Proposal = {
  type: 0,
  height: 0n,
  round: 0,
  polRound: 0,
  blockId: NIL_BLOCK,
  timestamp: ZERO_TIME,
  signature: NOTHING,
};

/** A vote for no block. */
export function isNil({ hash, parts }: BlockId): boolean {
  return hash.length === 0 && parts.total === 0 && parts.hash.length === 0;
}

/** Whether it names a block: both hashes, and how many parts. */
export function isComplete({ hash, parts }: BlockId): boolean {
  return hash.length === 32 && parts.total > 0 && parts.hash.length === 32;
}

export function encodeVote(vote: Vote): Uint8Array {
  return new Writer()
    .integer(1, vote.type)
    .integer(2, vote.height)
    .integer(3, vote.round)
    .message(4, encodeBlockId(vote.blockId))
    .message(5, encodeTimestamp(vote.timestamp))
    .bytes(6, vote.validatorAddress)
    .integer(7, vote.validatorIndex)
    .bytes(8, vote.signature)
    .bytes(9, vote.extension)
    .bytes(10, vote.extensionSignature)
    .finish();
}

/** @throws COMETBFT_MALFORMED, COMETBFT_FIELD_UNKNOWN */
export function decodeVote(bytes: Uint8Array, version: ProtocolVersion): Vote {
  const reader = new Reader(bytes, 'the vote');
  const vote = {
    type: reader.int32(1),
    height: reader.int64(2),
    round: reader.int32(3),
    blockId: decodeBlockId(reader.bytes(4)),
    timestamp: decodeTimestamp(reader.message(5)),
    validatorAddress: reader.bytes(6),
    validatorIndex: reader.int32(7),
    signature: reader.bytes(8),
    extension: hasExtensions(version) ? reader.bytes(9) : NOTHING,
    extensionSignature: hasExtensions(version) ? reader.bytes(10) : NOTHING,
  };
  reader.end();
  return vote;
}

export function encodeProposal(proposal: Proposal): Uint8Array {
  return new Writer()
    .integer(1, proposal.type)
    .integer(2, proposal.height)
    .integer(3, proposal.round)
    .integer(4, proposal.polRound)
    .message(5, encodeBlockId(proposal.blockId))
    .message(6, encodeTimestamp(proposal.timestamp))
    .bytes(7, proposal.signature)
    .finish();
}

/** @throws COMETBFT_MALFORMED, COMETBFT_FIELD_UNKNOWN */
export function decodeProposal(bytes: Uint8Array): Proposal {
  const reader = new Reader(bytes, 'the proposal');
  const proposal = {
    type: reader.int32(1),
    height: reader.int64(2),
    round: reader.int32(3),
    polRound: reader.int32(4),
    blockId: decodeBlockId(reader.bytes(5)),
    timestamp: decodeTimestamp(reader.message(6)),
    signature: reader.bytes(7),
  };
  reader.end();
  return proposal;
}

/** The header of the parts is there even in an empty one. */
export function encodeBlockId({ hash, parts }: BlockId): Uint8Array {
  const header = new Writer().integer(1, parts.total).bytes(2, parts.hash).finish();
  return new Writer().bytes(1, hash).message(2, header).finish();
}

function decodeBlockId(bytes: Uint8Array): BlockId {
  const reader = new Reader(bytes, 'the block id');
  const hash = reader.bytes(1);
  const header = new Reader(reader.bytes(2), "the header of the block's parts");
  const parts = { total: header.uint32(1), hash: header.bytes(2) };
  header.end();
  reader.end();
  return { hash, parts };
}

export function encodeTimestamp({ seconds, nanos }: Timestamp): Uint8Array {
  return new Writer().integer(1, seconds).integer(2, nanos).finish();
}

/** @throws COMETBFT_MALFORMED for one outside of the years 1 to 9999 */
export function decodeTimestamp(bytes: Uint8Array | undefined): Timestamp {
  if (bytes === undefined) return ZERO_TIME;
  const reader = new Reader(bytes, 'the timestamp');
  const timestamp = { seconds: reader.int64(1), nanos: reader.int32(2) };
  reader.end();
  const { seconds, nanos } = timestamp;
  if (seconds < ZERO_TIME.seconds || seconds > LAST_SECOND || nanos < 0 || nanos > 999_999_999) {
    throw malformed('the timestamp is out of range');
  }
  return timestamp;
}
