/** What the signer asks of the node's other daemons. */
import { fromHex } from '../../lib/protocol/encoding.ts';
import {
  DiskStatusReply,
  SignerKeysReply,
  SignerOrderReply,
  SignerSecretReply,
  sockets,
} from '../../lib/protocol/sockets.ts';
import { siblingCalls } from '../sibling-calls.ts';

export interface Siblings {
  /** What the contract wants signed, and why nothing may be. */
  order(): Promise<SignerOrderReply>;
  /** A secret of the manifest in force that a chain has as its key. */
  secret(manifest: string, name: string): Promise<Uint8Array>;
  /** @param epoch the one in which the chain's key was first used; absent for a new one */
  keys(chain: string, epoch?: number): Promise<SignerKeysReply>;
  disk(): Promise<DiskStatusReply>;
}

/** An order that is later than this is none: it is asked for again. Milliseconds. */
const ORDER_WITHIN = 2_000;
/** On an emulated processor a KEM takes its time. */
const OPENED_WITHIN = 60_000;

/** @param root prefix of every path */
export function siblingsAt(root: string): Siblings {
  const call = siblingCalls(root);
  const { kubernethesForSigner, replicatorForSigner, diskStatus } = sockets;
  return {
    order: () => call(kubernethesForSigner, '/v1/signer', SignerOrderReply, undefined, ORDER_WITHIN),
    async secret(manifest, name) {
      const asked = { manifest, name };
      const route = '/v1/signer-secret';
      const { value } = await call(kubernethesForSigner, route, SignerSecretReply, asked, OPENED_WITHIN);
      return fromHex(value);
    },
    keys: (chain, epoch) =>
      call(replicatorForSigner, '/v1/signer-keys', SignerKeysReply, {
        chain,
        ...(epoch === undefined ? {} : { epoch }),
      }),
    disk: () => call(diskStatus, '/v1/status', DiskStatusReply),
  };
}
