/**
 * What a transaction is for, as the key under which it is queued: a purpose has at most one transaction. The contract is
 * part of it, because one account may pay for several networks.
 */
import { addressKey, chainHex, type Hex } from '../../lib/protocol/hex.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';

export type PurposeKind = 'register' | 'onboard';

/** `register:0x<contract>:0x<request>`, in lower case. */
export function purposeOf(
  kind: PurposeKind,
  { contract }: Pick<Domain, 'contract'>,
  requestHash: Hex,
): string {
  return `${kind}:${addressKey(contract)}:${chainHex(requestHash)}`;
}
