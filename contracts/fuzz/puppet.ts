/**
 * A contract that can own a network and re-enters it: whatever it is sent it passes on to the network, and whenever the
 * network calls it, it counts that and calls the network back. By hand, for it has to be a few bytes and no more.
 */
import { encodeOpenPlatforms } from '../../lib/protocol/network-contract.ts';

/** Where the puppet lives. */
export const PUPPET: string = `0x${'00'.repeat(16)}c0ffee01`;
/** Its storage slot that counts how often the network called it. */
export const ENTRIES_SLOT = '0x0';

/** Runtime code of the puppet of the network at `network`, a lower-case address. */
export function puppetCode(network: string): string {
  const pushNetwork = `73${network.slice(2)}`;
  const selector = encodeOpenPlatforms().slice(2);
  return [
    // if (caller == network) goto entered (0x51)
    `0x${pushNetwork}3314605157`,
    // calldatacopy(0, 0, calldatasize); ok = call(gas, network, callvalue, 0, calldatasize, 0, 0)
    `3660006000376000600036600034${pushNetwork}5af1`,
    // returndatacopy(0, 0, returndatasize); if (ok) goto returned (0x4c)
    '3d600060003e604c57',
    // revert(0, returndatasize); returned: return(0, returndatasize)
    '3d6000fd5b3d6000f3',
    // entered: sstore(0, sload(0) + 1); mstore(0, selector << 224)
    `5b600160005401600055${`63${selector}60e01b600052`}`,
    // call(gas, network, 0, 0, 4, 0, 0); stop
    `60006000600460006000${pushNetwork}5af15000`,
  ].join('');
}
