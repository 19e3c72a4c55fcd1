/** The owner's check of a bootstrap package, in front of a contract and a chain clock that are made up. */
import { expect, test } from 'vitest';
import { parseQuote, quoteHash } from '../lib/attestation/quote/quote.ts';
import { expectedRequestLog, replay } from '../lib/attestation/registers/event-log.ts';
import { measurementOf } from '../lib/attestation/registers/measurement.ts';
import { createSimulatedPlatform } from '../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../lib/attestation/simulated/published.ts';
import type { NetworkReader } from '../lib/chain/network-reader.ts';
import { sha256, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { codeOf } from '../lib/protocol/errors.ts';
import { parseAddress } from '../lib/protocol/hex.ts';
import { networkKey } from '../lib/protocol/keys.ts';
import type { BootstrapPackage } from '../lib/protocol/onboarding-messages.ts';
import { bootstrapReportData } from '../lib/protocol/report-data.ts';
import { compact, sign } from '../lib/protocol/secp256k1.ts';
import { bootstrapDigest } from '../lib/protocol/typed-data.ts';
import { verifyBootstrap } from './verify-bootstrap.ts';

const NETWORK = { chainId: 31337, contract: parseAddress(`0x${'c0'.repeat(20)}`) };
const BLOCK = { number: 7, hash: sha256(utf8('block 7')) };

/** A package without a fault, as a first node makes it. */
function goodPackage(): BootstrapPackage {
  const { privateKey, address } = networkKey(sha256(utf8('a network secret')), 1);
  const config = sha256(utf8('network.json'));
  const platform = createSimulatedPlatform({ ppid: new Uint8Array(16).fill(7) });
  const registers = {
    mrtd: new Uint8Array(48).fill(1),
    rtmr0: new Uint8Array(48).fill(2),
    rtmr1: new Uint8Array(48).fill(3),
    rtmr2: new Uint8Array(48).fill(4),
    rtmr3: replay(expectedRequestLog('sim', config)),
  };
  const said = { networkKey: address, config, epoch: 1, blockHash: BLOCK.hash };
  const quote = platform.signQuote({ registers, reportData: bootstrapReportData({ ...NETWORK, ...said }) });
  const evidence = {
    measurement: measurementOf(registers),
    platform: platform.platformId,
    quoteHash: quoteHash(parseQuote(quote)),
  };
  const digest = bootstrapDigest(NETWORK, { ...said, ...evidence, blockNumber: BLOCK.number });
  return {
    type: 'bootstrap',
    ...NETWORK,
    networkKey: address,
    epoch: 1,
    config: toHex(config),
    blockNumber: BLOCK.number,
    blockHash: toHex(BLOCK.hash),
    measurement: toHex(evidence.measurement),
    platform: toHex(evidence.platform),
    quoteHash: toHex(evidence.quoteHash),
    quote: toHex(quote),
    signature: compact(sign(digest, privateKey)),
    collateral: PUBLISHED_SIMULATED_COLLATERAL,
  } as BootstrapPackage;
}

/** A contract that allows everything, on a chain whose newest block has this Unix time. */
function contractAt(timestamp: number): NetworkReader {
  const head = { number: BLOCK.number, hash: `0x${toHex(BLOCK.hash)}`, timestamp };
  return {
    chain: { head: async () => head, block: async () => head },
    network: async () => ({ epoch: 0 }),
    isAllowed: async () => ({ measurementAllowed: true, configAllowed: true, platformAllowed: true }),
    tcbPolicy: async () => ({
      statuses: ['UpToDate'],
      gracePeriodDays: 0,
      minimumTcbEvaluationDataNumber: 0,
    }),
    fmspcDenied: async () => false,
  } as unknown as NetworkReader;
}

const verdict = (timestamp: number): Promise<string> =>
  verifyBootstrap(goodPackage(), NETWORK, 'sim', contractAt(timestamp)).then(() => 'accepted', codeOf);

test("a chain clock that disagrees with this machine's is noticed, whatever the collateral would allow", async () => {
  const now = Math.floor(Date.now() / 1000);
  for (const near of [now, now - 1_100, now + 1_100]) expect(await verdict(near)).toBe('accepted');
  for (const far of [now - 1_300, now + 1_300, 1_600_000_000, 2_400_000_000]) {
    expect(await verdict(far)).toBe('CLOCK_DISAGREES');
  }
});
