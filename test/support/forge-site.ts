/**
 * Evidence of a website by one who has the network's secret, with any lie in it; and websites of the test's own, to bring it.
 * What is true of a lie that even the network key signed, is true of all others.
 */
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { selfSigned } from '../../guest/tls/certificate.ts';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import { parseQuote, quoteHash } from '../../lib/attestation/quote/quote.ts';
import { expectedJoinedLog, expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { createSimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { networkKey, tlsKey } from '../../lib/protocol/keys.ts';
import { configHash } from '../../lib/protocol/network-config.ts';
import { compact, newPrivateKey, sign } from '../../lib/protocol/secp256k1.ts';
import {
  p256PublicKey,
  reportDataOfSite,
  type SiteEvidence,
  siteOf,
} from '../../lib/protocol/site-evidence.ts';
import { type Domain, siteDigest } from '../../lib/protocol/typed-data.ts';
import { type Forgeable, ppidOf } from './forge.ts';
import { registersOf } from './network.ts';

/** Of which network, on which machine, at which block. */
export interface SiteScene {
  domain: Domain;
  networkJson: string;
  ppid: Uint8Array;
  block: { number: number; hash: string };
}

/** A test network's, at its newest block. A node must have started before. */
export async function sceneOf(network: Forgeable): Promise<SiteScene> {
  const { number, hash } = (await network.rpc.getBlock('latest'))!;
  const { domain, networkJson } = network;
  return { domain, networkJson, ppid: ppidOf(network), block: { number, hash: hash! } };
}

export interface SiteLies {
  epoch?: number;
  /** Boots another image; what is signed names the honest one's measurement with `signed`. */
  image?: string;
  debug?: boolean;
  /** False: a machine on its way. */
  joined?: boolean;
  /** What the quote is over, in place of the evidence's own words. */
  reportData?: Uint8Array;
  /** Changes the words before they are quoted and signed. */
  said?: Partial<SiteEvidence>;
  /** Changes them after the quote, before the signature. */
  signed?: Partial<SiteEvidence>;
  collateral?: Collateral | 'none';
}

/** As a node would give it, but for the lies. */
export function forgeSite(
  network: SiteScene,
  secret: Uint8Array,
  nonce: Uint8Array,
  lies: SiteLies = {},
): SiteEvidence {
  const { block } = network;
  const config = configHash(Buffer.from(network.networkJson));
  const epoch = lies.epoch ?? 1;
  const key = networkKey(secret, epoch);
  const said = {
    type: 'site' as const,
    version: 1 as const,
    ...network.domain,
    networkKey: key.address,
    epoch,
    publicKey: toHex(p256PublicKey(tlsKey(secret, epoch))),
    nonce: toHex(nonce),
    config: toHex(config),
    blockNumber: block.number,
    blockHash: toHex(fromHex(block.hash)),
    hostImpersonable: true,
    ...lies.said,
  };
  const registers = registersOf(lies.image);
  const logOf = lies.joined === false ? expectedRequestLog : expectedJoinedLog;
  const platform = createSimulatedPlatform({ ppid: network.ppid });
  const quote = platform.signQuote({
    registers: {
      ...registers,
      rtmr3: replay(logOf('sim', fromHex(said.config))),
    },
    reportData: lies.reportData ?? reportDataOfSite(network.domain, said),
    ...(lies.debug === undefined ? {} : { debug: lies.debug }),
  });
  const claims = {
    ...said,
    measurement: toHex(measurementOf(registers)),
    platform: toHex(platform.platformId),
    quoteHash: toHex(quoteHash(parseQuote(quote))),
    ...lies.signed,
  };
  const { collateral = PUBLISHED_SIMULATED_COLLATERAL } = lies;
  return {
    ...claims,
    quote: toHex(quote),
    signature: compact(sign(siteDigest(network.domain, siteOf(claims)), key.privateKey)),
    ...(collateral === 'none' ? {} : { collateral }),
  };
}

export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  body: string;
}

export interface Front {
  url: string;
  /** The targets that were asked for. */
  asked: string[];
  close(): Promise<void>;
}

/** A website whose TLS ends with this P-256 key, or with one of its own. @param answer of the target asked for */
export async function startFront(
  answer: (target: string) => Answer | Promise<Answer>,
  privateKey: Uint8Array = newPrivateKey(),
): Promise<Front> {
  const { key, certificate } = selfSigned({
    privateKey,
    chainId: 1,
    contract: parseAddress(`0x${'ab'.repeat(20)}`),
    builtAt: Math.floor(Date.now() / 1000),
  });
  const asked: string[] = [];
  const server = createServer(
    { key: key.export({ type: 'pkcs8', format: 'pem' }), cert: certificate },
    async (req, res) => {
      asked.push(req.url!);
      const { status = 200, headers = {}, body } = await answer(req.url!);
      res.writeHead(status, headers).end(body);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The nonce in a target, hex. */
export const nonceIn = (target: string): string => /nonce=([0-9a-f]{64})$/.exec(target)?.[1] ?? '';
