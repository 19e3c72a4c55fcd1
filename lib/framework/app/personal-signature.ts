/** What an account of the chain has signed by its wallet as a text: `personal_sign`, ERC-191 version 0x45. */
import { fromHex, utf8 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import type { Address, Hex } from '../../protocol/hex.ts';
import { keccak256, recover } from '../../protocol/secp256k1.ts';

/**
 * Who signed the text. Compare it with whom it should be: any signature is somebody's.
 * @param signature r ‖ s ‖ v, 0x hex; v is 27 or 28, or 0 or 1
 * @throws SIGNATURE_INVALID
 */
export function signerOf(text: string, signature: Hex): Address {
  const bytes = fromHex(signature.slice(2));
  const v = bytes[64] ?? 255;
  const parity = v >= 27 ? v - 27 : v;
  if (bytes.length !== 65 || parity > 1)
    throw new DstackError('SIGNATURE_INVALID', 'a signature has 65 bytes, the last of them 27, 28, 0 or 1');
  const vs = bytes.slice(32, 64);
  // One form of a signature, not two: the top bit is where the parity goes.
  if (vs[0]! & 0x80) throw new DstackError('SIGNATURE_INVALID', 'the signature has a high s');
  vs[0] = vs[0]! | (parity << 7);
  const message = utf8(text);
  const prefix = utf8(`\x19Ethereum Signed Message:\n${message.length}`);
  return recover(keccak256(Uint8Array.from([...prefix, ...message])), bytes.slice(0, 32), vs);
}
