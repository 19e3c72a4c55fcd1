/** What this machine is, as read at boot: its image, its measured configuration, and the host's hints. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TrustRoot, trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { type Evidence, verify } from '../../lib/attestation/verify.ts';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import {
  configHash,
  type HostHints,
  type ImageInfo,
  type NetworkConfig,
  parseHostHints,
  parseNetworkConfig,
} from '../../lib/protocol/network-config.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';

export interface Identity {
  image: ImageInfo;
  network: NetworkConfig;
  /** SHA-256 of network.json's bytes. */
  config: Uint8Array;
  domain: Domain;
  hints: HostHints;
  trustRoot: TrustRoot;
  /** The value of RTMR3 in any quote that asks for the secret: this flavour, this config, nothing more. */
  requestRtmr3(config: Uint8Array): Uint8Array;
}

/** @param root prefix of every path, empty in the guest */
export function readIdentity(root: string): Identity {
  const image = readImageInfo(root);
  const bytes = readFileSync(join(root, '/run/dstack/network.json'));
  const network = parseNetworkConfig(bytes, image.flavour);
  return {
    image,
    network,
    config: configHash(bytes),
    domain: { chainId: network.chainId, contract: network.contract },
    hints: parseHostHints(readFileSync(join(root, '/run/dstack/host.json'))),
    trustRoot: trustRootOf(image.flavour),
    requestRtmr3: (config) => replay(expectedRequestLog(image.flavour, config)),
  };
}

/**
 * What a quote that this machine has just taken says about it: others will know the machine by this. They judge, with
 * collateral, whether they accept its platform; a guest has no collateral.
 * @throws AttestationError when it is not a quote of this machine: its signatures, RTMR3 or report data are wrong
 */
export function ownEvidence(
  identity: Identity,
  quote: Uint8Array,
  reportData: Uint8Array,
  nowSeconds: number,
): Evidence {
  return verify(quote, {
    trustRoot: identity.trustRoot,
    now: new Date(nowSeconds * 1000),
    depth: 'signatures',
    measurement: 'any',
    reportData,
    rtmr3: identity.requestRtmr3(identity.config),
  }).evidence;
}
