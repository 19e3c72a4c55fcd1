/** Whether the code at an address is what this release deploys. */
import { networkImmutables, networkRuntimeBytecode } from '../../contracts/bindings.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';

/**
 * True for our contract's runtime code. What the constructor fills in (the EIP-712 domain's cache and the request window) is not
 * compared here: it is read through the views.
 * @param code 0x-hex
 */
export function isOurCode(code: string): boolean {
  if (code.length !== networkRuntimeBytecode.length) return false;
  return Buffer.from(masked(code)).equals(Buffer.from(masked(networkRuntimeBytecode)));
}

function masked(code: string): Uint8Array {
  const bytes = fromHex(code);
  for (const { start, length } of networkImmutables) bytes.fill(0, start, start + length);
  return bytes;
}
