/**
 * What is signed: the canonical form of a vote, a proposal or a vote's extension, with its length before it (cometbft `canonical.proto`,
 * the same in every version since 0.34), and Celestia's raw bytes behind their own prefix.
 *
 * A wrong byte in an extension's makes a node stop for good, so the vectors decide.
 */
import { bytesEqual } from '../protocol/encoding.ts';
import {
  type BlockId,
  decodeTimestamp,
  encodeBlockId,
  encodeTimestamp,
  isNil,
  PROPOSAL,
  type Proposal,
  type Timestamp,
  type Vote,
} from './consensus.ts';
import { delimited, malformed, Reader, undelimited, Writer } from './wire.ts';

const RAW_BYTES_PREFIX = new TextEncoder().encode('COMET::RAW_BYTES::SIGN');
/** Fields of the canonical forms that hold the timestamp. */
const VOTE_TIMESTAMP = 5;
const PROPOSAL_TIMESTAMP = 6;

export function voteSignBytes(chainId: string, vote: Omit<Vote, 'extension'>): Uint8Array {
  const message = new Writer().integer(1, vote.type).sfixed64(2, vote.height).sfixed64(3, vote.round);
  return delimited(
    canonicalBlockId(message, 4, vote.blockId)
      .message(VOTE_TIMESTAMP, encodeTimestamp(vote.timestamp))
      .text(6, chainId)
      .finish(),
  );
}

export function proposalSignBytes(chainId: string, proposal: Proposal): Uint8Array {
  const message = new Writer()
    .integer(1, PROPOSAL)
    .sfixed64(2, proposal.height)
    .sfixed64(3, proposal.round)
    .integer(4, proposal.polRound);
  return delimited(
    canonicalBlockId(message, 5, proposal.blockId)
      .message(PROPOSAL_TIMESTAMP, encodeTimestamp(proposal.timestamp))
      .text(7, chainId)
      .finish(),
  );
}

export function extensionSignBytes(
  chainId: string,
  { extension, height, round }: Pick<Vote, 'extension' | 'height' | 'round'>,
): Uint8Array {
  return delimited(
    new Writer().bytes(1, extension).sfixed64(2, height).sfixed64(3, round).text(4, chainId).finish(),
  );
}

/** Celestia's. They cannot be those of a vote or a proposal: the prefix is no length of a canonical message. */
export function rawSignBytes(chainId: string, uniqueId: string, raw: Uint8Array): Uint8Array {
  const message = new Writer().text(1, chainId).bytes(2, raw).text(3, uniqueId).finish();
  return new Uint8Array(Buffer.concat([RAW_BYTES_PREFIX, delimited(message)]));
}

/** A nil block is not written at all. */
function canonicalBlockId(message: Writer, field: number, blockId: BlockId): Writer {
  return isNil(blockId) ? message : message.message(field, encodeBlockId(blockId));
}

/** Whether bytes have the form of what is signed for consensus: their own length before them. */
export function hasConsensusForm(bytes: Uint8Array): boolean {
  try {
    undelimited(bytes);
    return true;
  } catch {
    return false;
  }
}

/**
 * The timestamp of sign bytes, when the others say the same but for it; undefined when they say something else.
 * @throws COMETBFT_MALFORMED for what are no sign bytes of a vote or a proposal
 */
export function timestampIfSame(signed: Uint8Array, asked: Uint8Array): Timestamp | undefined {
  const [before, now] = [withoutTimestamp(signed), withoutTimestamp(asked)];
  return bytesEqual(before.rest, now.rest) ? before.timestamp : undefined;
}

/** Sign bytes cut at the timestamp, which every canonical vote and proposal has exactly once. */
function withoutTimestamp(signBytes: Uint8Array): { timestamp: Timestamp; rest: Uint8Array } {
  const message = undelimited(signBytes);
  const reader = new Reader(message, 'the sign bytes');
  const type = reader.int64(1);
  const field = type === BigInt(PROPOSAL) ? PROPOSAL_TIMESTAMP : VOTE_TIMESTAMP;
  const timestamp = reader.message(field);
  if (timestamp === undefined) throw malformed('the sign bytes have no timestamp');
  // A view into the message: its place says where to cut.
  const start = timestamp.byteOffset - message.byteOffset;
  const head = 1 + lengthBytes(timestamp.length);
  const rest = Buffer.concat([message.subarray(0, start - head), message.subarray(start + timestamp.length)]);
  return { timestamp: decodeTimestamp(timestamp), rest: new Uint8Array(rest) };
}

/** A timestamp has fewer than 128 bytes. */
function lengthBytes(length: number): number {
  if (length > 127) throw malformed('the timestamp is too long');
  return 1;
}
