/**
 * What the owner's machine checks before the owner signs a bootstrap: everything that the nodes will later rely on. The package
 * came through an untrusted host.
 */

import { trustRootOf } from '../lib/attestation/certificates/trust-roots.ts';
import { collateralOf } from '../lib/attestation/collateral/collateral.ts';
import { expectedRequestLog, replay } from '../lib/attestation/registers/event-log.ts';
import { type AttestationResult, verifyAsking } from '../lib/attestation/verify.ts';
import { contractAsRelyingParty } from '../lib/chain/network-policy.ts';
import type { NetworkReader } from '../lib/chain/network-reader.ts';
import { fromHex, toHex } from '../lib/protocol/encoding.ts';
import { DstackError } from '../lib/protocol/errors.ts';
import { sameAddress, sameHex } from '../lib/protocol/hex.ts';
import type { Flavour } from '../lib/protocol/network-config.ts';
import type { BootstrapPackage } from '../lib/protocol/onboarding-messages.ts';
import { bootstrapStatement, requireSigner } from '../lib/protocol/signed-messages.ts';
import type { Domain } from '../lib/protocol/typed-data.ts';
import { ownClock } from './own-clock.ts';

/**
 * @param flavour decides the trust root; the owner gives it, the package does not
 * @throws CLOCK_DISAGREES, BOOTSTRAP_OTHER_NETWORK, BOOTSTRAP_EPOCH, BOOTSTRAP_BLOCK, BOOTSTRAP_SIGNATURE, BOOTSTRAP_CLAIM,
 *   MEASUREMENT_NOT_ALLOWED, CONFIG_NOT_ALLOWED, PLATFORM_NOT_ALLOWED, or the quote verifier's codes
 */
export async function verifyBootstrap(
  message: BootstrapPackage,
  network: Domain,
  flavour: Flavour,
  reader: NetworkReader,
): Promise<AttestationResult> {
  if (message.chainId !== network.chainId || !sameAddress(message.contract, network.contract)) {
    throw new DstackError(
      'BOOTSTRAP_OTHER_NETWORK',
      `the package is for ${message.contract} on chain ${message.chainId}`,
    );
  }
  const head = await reader.chain.head();
  const state = await reader.network(head);
  if (message.epoch !== state.epoch + 1) {
    throw new DstackError(
      'BOOTSTRAP_EPOCH',
      `the package is for epoch ${message.epoch}, the network is in ${state.epoch}`,
    );
  }
  const block = await reader.chain.block(message.blockNumber);
  if (!sameHex(block.hash, message.blockHash)) {
    throw new DstackError(
      'BOOTSTRAP_BLOCK',
      `block ${message.blockNumber} is ${block.hash}, not ${message.blockHash}`,
    );
  }

  const config = fromHex(message.config, 32);
  const expected = {
    trustRoot: trustRootOf(flavour),
    now: new Date(ownClock(head.timestamp) * 1000),
    collateral: message.collateral === undefined ? undefined : collateralOf(message.collateral),
    rtmr3: replay(expectedRequestLog(flavour, config)),
    reportData: bootstrapStatement(network, message),
  };
  const relyingParty = contractAsRelyingParty(reader, config, head);
  const result = await verifyAsking(fromHex(message.quote), expected, relyingParty);
  for (const name of ['measurement', 'platform', 'quoteHash'] as const) {
    const found = toHex(result.evidence[name]);
    if (found !== message[name]) {
      throw new DstackError(
        'BOOTSTRAP_CLAIM',
        `the package claims ${name} ${message[name]}, its quote has ${found}`,
      );
    }
  }
  requireSigner(network, message, message.networkKey, 'BOOTSTRAP_SIGNATURE');
  return result;
}
