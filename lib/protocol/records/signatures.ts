/** Whether a record was made by its owner, and by somebody who knows its names. */
import { DstackError } from '../errors.ts';
import type { DagRecord } from './format.ts';
import { bodyHash, claimMessage, idFrom, ownerMessage } from './identity.ts';
import { isSignedStrictly, requireCanonicalKey, requireCanonicalSignature } from './strict-ed25519.ts';

/**
 * The record's identity, once its signature and all of its claims were found good. What costs nothing to see is seen first.
 * @throws RECORD_KEY, RECORD_SIGNATURE_FORM (what no honest maker writes); RECORD_SIGNATURE, RECORD_CLAIM
 */
export function verifySignatures(record: DagRecord): Uint8Array {
  const { owner, selectors, claims, signature } = record;
  requireCanonicalKey(owner, 'the owner');
  requireCanonicalSignature(signature, 'the signature');
  for (const { claimKey } of selectors) requireCanonicalKey(claimKey, 'a claim key');
  for (const claim of claims) requireCanonicalSignature(claim, 'a claim');

  const body = bodyHash(record, record.value);
  const id = idFrom(body, record);
  if (!isSignedStrictly(ownerMessage(id), signature, owner)) {
    throw new DstackError('RECORD_SIGNATURE', 'the signature is not its owner’s; fetch it from another peer');
  }
  const claimed = claimMessage(body);
  for (const [i, { claimKey }] of selectors.entries()) {
    if (!isSignedStrictly(claimed, claims[i]!, claimKey)) {
      throw new DstackError('RECORD_CLAIM', `the claim of selector ${i} is not by who knows the name`);
    }
  }
  return id;
}
