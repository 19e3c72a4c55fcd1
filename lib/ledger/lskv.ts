/**
 * Receipts in LSKV's messages (lskvserverpb), whose fields were made for another tree. What each has here:
 *
 *     cert                the verifier key of the log (NAME+HASH+KEY), which is no X.509 certificate
 *     signature           Ed25519's over the text of the signed head
 *     node_id             hex of the SHA-256 of the public key: the same on every node
 *     write_set_digest    hex of the leaf's hash, from which `proof` leads to the root, by RFC 9162's SHA-256(0x01 ‖ left ‖ right)
 *     commit_evidence     the whole receipt (receipt.ts): all that is verified is verified from it
 *     claims_digest       hex of the SHA-256 of ReceiptClaims, as LSKV's clients rebuild it: of a put or a delete of one key, without its flags
 *                         (`prev_kv` and the like), whose value the store still has. Empty for all else: then the events are what is proven.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type ReceiptClaims, ReceiptClaimsSchema, type WriteReceiptSchema } from '../etcd/gen/receipt_pb.js';
import { sha256, toHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { readCheckpoint } from './checkpoint.ts';
import { inclusionNodes, leafHash } from './merkle.ts';
import { type NoteKey, parseNote, verifierKey } from './note.ts';
import { parseReceipt } from './receipt.ts';

/** What a put was, as its client asked for it and was answered. */
export function claimsOfPut(key: Uint8Array, value: Uint8Array, lease: bigint): ReceiptClaims {
  return create(ReceiptClaimsSchema, {
    request: { case: 'requestPut', value: { key, value, lease } },
    response: { case: 'responsePut', value: {} },
  });
}

/** The delete of one key that was there. */
export function claimsOfDelete(key: Uint8Array): ReceiptClaims {
  return create(ReceiptClaimsSchema, {
    request: { case: 'requestDeleteRange', value: { key } },
    response: { case: 'responseDeleteRange', value: { deleted: 1n } },
  });
}

export function claimsDigest(claims: ReceiptClaims): string {
  return toHex(sha256(toBinary(ReceiptClaimsSchema, claims)));
}

/** @param receipt as `formatReceipt` makes it */
export function lskvReceipt(
  receipt: string,
  log: NoteKey,
  claims?: ReceiptClaims,
): MessageInitShape<typeof WriteReceiptSchema> {
  const { entry, index, proof, checkpoint } = parseReceipt(receipt);
  const { size } = readCheckpoint(checkpoint);
  const sides = inclusionNodes(index, size).map(([first]) =>
    first!.index * 2 ** first!.level < index ? 'left' : 'right',
  );
  return {
    cert: verifierKey(log),
    signature: parseNote(checkpoint).signatures[0]!.signature,
    nodeId: toHex(sha256(log.publicKey)),
    receiptExtras: {
      case: 'txReceipt',
      value: {
        leafComponents: {
          claimsDigest: claims === undefined ? '' : claimsDigest(claims),
          commitEvidence: receipt,
          writeSetDigest: toHex(leafHash(entry)),
        },
        proof: proof.map((hash, at) => ({ [sides[at]!]: toHex(hash) })),
      },
    },
  };
}

/** The receipt in an answer's JSON, as the gateway or LSKV's clients write it. @throws RECEIPT_INVALID */
export function receiptInAnswer(answer: unknown): string {
  const at = (value: unknown, ...names: string[]): unknown =>
    typeof value === 'object' && value !== null
      ? names.map((name) => (value as Record<string, unknown>)[name]).find((found) => found !== undefined)
      : undefined;
  const parts = at(at(at(answer, 'receipt'), 'txReceipt', 'tx_receipt'), 'leafComponents', 'leaf_components');
  const text = at(parts, 'commitEvidence', 'commit_evidence');
  if (typeof text === 'string') return text;
  throw new DstackError('RECEIPT_INVALID', 'the answer has no receipt in it');
}
