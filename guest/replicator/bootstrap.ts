/**
 * The first node: makes the secret, attests to it in a package that the owner checks and posts, and waits until the contract
 * shows its key. The quote names a block, so the package is remade as blocks pass; the secret stays the same.
 */

import type { Evidence } from '../../lib/attestation/verify.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import type { BootstrapPackage } from '../../lib/protocol/onboarding-messages.ts';
import { bootstrapReportData } from '../../lib/protocol/report-data.ts';
import type { Attestor } from './attestor.ts';
import { type Identity, ownEvidence } from './identity.ts';
import type { SecretHolder } from './secret.ts';

/** The contract knows a block's hash for 256 blocks; the owner needs some of that time to check and send. */
const REMAKE_AFTER_BLOCKS = 128;

export interface Bootstrap {
  /** A package over a recent block. */
  package(): Promise<{ message: BootstrapPackage; evidence: Evidence }>;
}

export function bootstrap(
  identity: Identity,
  reader: NetworkReader,
  attestor: Attestor,
  keys: SecretHolder,
): Bootstrap {
  let latest: { message: BootstrapPackage; evidence: Evidence } | undefined;
  let making: Promise<{ message: BootstrapPackage; evidence: Evidence }> | undefined;

  async function make() {
    const head = await reader.chain.head();
    const { domain, config } = identity;
    const blockHash = fromHex(head.hash, 32);
    const { networkKey, epoch } = keys;
    const reportData = bootstrapReportData({ ...domain, networkKey, config, epoch, blockHash });
    const quote = await attestor.quote(reportData);
    const evidence = ownEvidence(identity, quote, reportData, reader.chain.now());
    const { measurement, platform, quoteHash } = evidence;
    const signature = keys.signBootstrap({
      networkKey,
      measurement,
      config,
      platform,
      quoteHash,
      blockNumber: head.number,
      blockHash,
      epoch,
    });
    const message: BootstrapPackage = {
      type: 'bootstrap',
      ...domain,
      networkKey,
      measurement: toHex(measurement),
      config: toHex(config),
      platform: toHex(platform),
      epoch,
      blockNumber: head.number,
      blockHash: toHex(blockHash),
      quote: toHex(quote),
      quoteHash: toHex(quoteHash),
      signature,
    };
    latest = { message, evidence };
    return latest;
  }

  return {
    async package() {
      const head = await reader.chain.head();
      if (latest !== undefined && head.number - latest.message.blockNumber < REMAKE_AFTER_BLOCKS)
        return latest;
      making ??= make().finally(() => {
        making = undefined;
      });
      return making;
    },
  };
}
