/** Calls and events of an author's contract, by their signatures as Solidity writes them. */
import type { Codec } from '../../protocol/abi.ts';
import { to0x, utf8 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import type { Hex } from '../../protocol/hex.ts';
import { keccak256 } from '../../protocol/secp256k1.ts';

const SIGNATURE = /^[A-Za-z_$][\w$]*\([\w,[\]()]*\)$/;

/** Topic 0 of an event such as `Pong(uint64,address,string)`. @throws SIGNATURE_FORM */
export const eventTopic = (signature: string): Hex => hashOf(signature);

/**
 * Data of a call of a function such as `ping(string)`.
 * @param args of its arguments, in their order: `abi.struct({ text: abi.text })`
 * @throws SIGNATURE_FORM, CONTRACT_ARGUMENT_INVALID
 */
export const functionCall = <T>(signature: string, args: Pick<Codec<T>, 'encode'>, values: T): string =>
  `${hashOf(signature).slice(0, 10)}${args.encode(values)}`;

function hashOf(signature: string): Hex {
  if (!SIGNATURE.test(signature))
    throw new DstackError(
      'SIGNATURE_FORM',
      `${JSON.stringify(signature.slice(0, 80))} is no signature: write name(type,type), without blanks and names of arguments`,
    );
  return to0x(keccak256(utf8(signature)));
}
