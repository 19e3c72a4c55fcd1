// GENERATED from contracts/Publications.sol by `npm run bindings`: do not edit.

/** The contract in whose transactions' calldata hosts leave messages: where it is, and its one function. */
import { bytes, type Codec, decodeStrictly, fixedBytes, struct } from './abi.ts';
import { DstackError } from './errors.ts';
import { type Address, type Hex, parseAddress } from './hex.ts';

/** Where it is, on every chain that has the deployer. */
export const publicationsAddress: Address = parseAddress('0x36C0c935EB234572433fE255B584FbB8e845b419');

/** Who creates it there: a contract without an owner. */
export const publicationsDeployer: Address = parseAddress('0x4e59b44847b379578588920cA78FbF26c0B4956C');

/** What the deployer is sent for that, by whoever comes first: a salt of zeros, then the creation code. */
export const publicationsDeployment =
  '0x00000000000000000000000000000000000000000000000000000000000000006080806040523460145760ee90816100198239f35b5f80fdfe6004361015600b575f80fd5b5f3560e01c6370a7453214601d575f80fd5b3460ea5760407ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc36011260ea5760243567ffffffffffffffff811160ea573660238201121560ea57806004013567ffffffffffffffff811160ea573691016024011160ea5732331480159060e1575b60b957336004357f01b80486de228d11f297eca772f884b0524c05c30d758999288a0f1db1137ce05f80a3005b7fd62de66a000000000000000000000000000000000000000000000000000000005f5260045ffd5b50333b1515608c565b5f80fd';

/** The code that is then at the address. */
export const publicationsRuntimeBytecode =
  '0x6004361015600b575f80fd5b5f3560e01c6370a7453214601d575f80fd5b3460ea5760407ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc36011260ea5760243567ffffffffffffffff811160ea573660238201121560ea57806004013567ffffffffffffffff811160ea573691016024011160ea5732331480159060e1575b60b957336004357f01b80486de228d11f297eca772f884b0524c05c30d758999288a0f1db1137ce05f80a3005b7fd62de66a000000000000000000000000000000000000000000000000000000005f5260045ffd5b50333b1515608c565b5f80fd';

/** Topic 0 of `Published`; topic 1 is the subject, topic 2 the publisher. */
export const publishedTopic = '0x01b80486de228d11f297eca772f884b0524c05c30d758999288a0f1db1137ce0';

const SELECTOR = '0x70a74532';

/** What a publication is: what it is about, and the message's bytes. */
export interface PublishArgs {
  readonly subject: Hex;
  readonly message: Hex;
}
const publishCodec: Codec<PublishArgs> = struct({ subject: fixedBytes(32), message: bytes });

/** The calldata of `publish`. */
export function encodePublish(args: PublishArgs): string {
  return `${SELECTOR}${publishCodec.encode(args)}`;
}

/** @throws DstackError `CONTRACT_DATA_INVALID` for calldata of anything else */
export function decodePublish(calldata: string): PublishArgs {
  if (!calldata.toLowerCase().startsWith(SELECTOR))
    throw new DstackError(
      'CONTRACT_DATA_INVALID',
      'a transaction that should publish something calls something else',
    );
  return decodeStrictly(publishCodec, `0x${calldata.slice(SELECTOR.length)}`, 'publication');
}
