/**
 * The parts that a test plays itself: a node that asks, with any lie in its evidence, and a first node whose network secret the
 * test knows. So one real node is enough to see what it accepts and what it keeps to itself.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseQuote, quoteHash } from '../../lib/attestation/quote/quote.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { type ImageRegisters, measurementOf } from '../../lib/attestation/registers/measurement.ts';
import {
  authorityExtensions,
  issue,
  SIMULATED_PLATFORM_CA,
  simulatedKey,
  simulatedPckCertificate,
} from '../../lib/attestation/simulated/certificates.ts';
import {
  createSimulatedPlatform,
  type SimulatedPlatformOptions,
  type SimulatedQuoteRequest,
  sgxExtensionOf,
  simulatedPckKey,
} from '../../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { SIMULATED_ROLES } from '../../lib/attestation/simulated/roles.ts';
import { fromHex, sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { type Address, type Hex, parseAddress } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { configHash } from '../../lib/protocol/network-config.ts';
import { decodeNetwork, encodeBootstrap, encodeNetwork } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { type RegisterReport, registerReportData } from '../../lib/protocol/report-data.ts';
import { answerHash, type KemKeyPair, newKemKeyPair, seal } from '../../lib/protocol/sealing.ts';
import { addressOf, compact, newPrivateKey, sign } from '../../lib/protocol/secp256k1.ts';
import { bootstrapDigest, onboardDigest, requestDigest } from '../../lib/protocol/typed-data.ts';
import { registersOf, type TestNetwork } from './network.ts';

/** The lies that a forged request may tell; each applies to the evidence and leaves the rest true. */
export interface Lies {
  /** Boots another image. */
  image?: string;
  /** Has this measurement instead of a test image's. */
  registers?: ImageRegisters;
  /** Runs on another platform, or on one that differs from the usual one. */
  platform?: Partial<SimulatedPlatformOptions>;
  debug?: boolean;
  tdAttributes?: Uint8Array;
  /** RTMR3 in place of the replay of flavour and config. */
  rtmr3?: Uint8Array;
  /** The bytes of network.json that the request names. */
  networkJson?: string;
  /** Changes what the report data is over; the message stays as it is. */
  report?: (report: RegisterReport) => RegisterReport;
  /** Replaces the finished quote; the message names the new one's hash. */
  quote?: (quote: Uint8Array) => Uint8Array;
  /** Names this as the quote's hash, hex. */
  quoteHash?: string;
  /** Signs for another network. */
  domain?: { chainId: number; contract: Address };
}

export interface ForgedRequest {
  message: RequestMessage;
  kem: KemKeyPair;
}

/** What a forger has to know about a network. */
export type Forgeable = Pick<TestNetwork, 'rpc' | 'domain' | 'contract' | 'networkJson' | 'directory'>;

/** The PPID of the host that a test network's nodes run on. */
export function ppidOf(network: Forgeable): Uint8Array {
  const { ppid } = JSON.parse(readFileSync(join(network.directory, 'platform'), 'utf8')) as { ppid: string };
  return fromHex(ppid);
}

/** A request as a node would make it over the newest block, except for the lies. A node must have started before. */
export async function forgeRequest(network: Forgeable, lies: Lies = {}): Promise<ForgedRequest> {
  const block = (await network.rpc.getBlock('latest'))!;
  const nodeKey = newPrivateKey();
  const kem = await newKemKeyPair();
  const config = configHash(Buffer.from(lies.networkJson ?? network.networkJson));
  const report: RegisterReport = {
    ...network.domain,
    node: addressOf(nodeKey),
    kemPublicKey: kem.publicKey,
    config,
    epoch: await epochOf(network),
    blockHash: fromHex(block.hash!),
  };
  const request: SimulatedQuoteRequest = {
    registers: {
      ...(lies.registers ?? registersOf(lies.image)),
      rtmr3: lies.rtmr3 ?? replay(expectedRequestLog('sim', config)),
    },
    reportData: registerReportData(lies.report?.(report) ?? report),
    ...(lies.debug === undefined ? {} : { debug: lies.debug }),
    ...(lies.tdAttributes === undefined ? {} : { tdAttributes: lies.tdAttributes }),
  };
  const honest = createSimulatedPlatform({ ppid: ppidOf(network), ...lies.platform }).signQuote(request);
  const quote = lies.quote?.(honest) ?? honest;
  const unsigned: RequestMessage = {
    type: 'request',
    ...network.domain,
    node: parseAddress(report.node),
    kemPublicKey: toHex(kem.publicKey),
    config: toHex(config),
    epoch: report.epoch,
    blockNumber: block.number,
    blockHash: toHex(report.blockHash),
    quote: toHex(quote),
    quoteHash: (lies.quoteHash as Hex) ?? toHex(quoteHash(parseQuote(quote))),
    signature: { r: to0x(new Uint8Array(32)), vs: to0x(new Uint8Array(32)) },
    collateral: PUBLISHED_SIMULATED_COLLATERAL,
  };
  const digest = requestDigest(lies.domain ?? network.domain, requestOf(unsigned).hash);
  return { message: { ...unsigned, signature: compact(sign(digest, nodeKey)) }, kem };
}

/** The first node's part, played with a secret that the test knows: the contract takes its key. */
export async function forgeBootstrap(network: TestNetwork, secret: Uint8Array): Promise<void> {
  const epoch = (await epochOf(network)) + 1;
  const { privateKey, address } = networkKey(secret, epoch);
  const block = (await network.rpc.getBlock('latest'))!;
  const evidence = {
    measurement: measurementOf(registersOf()),
    config: configHash(Buffer.from(network.networkJson)),
    platform: createSimulatedPlatform({ ppid: ppidOf(network) }).platformId,
    quoteHash: new Uint8Array(32).fill(1),
  };
  const typed = {
    ...evidence,
    networkKey: address,
    blockNumber: block.number,
    blockHash: fromHex(block.hash!),
    epoch,
  };
  await network.send(
    encodeBootstrap({
      networkKey: address,
      measurement: to0x(evidence.measurement),
      config: to0x(evidence.config),
      platform: to0x(evidence.platform),
      quoteHash: to0x(evidence.quoteHash),
      blockNumber: BigInt(block.number),
      blockHash: block.hash!,
      ...compact(sign(bootstrapDigest(network.domain, typed), privateKey)),
    }),
  );
}

/**
 * Both steps of an answer, under a valid signature of the network whose secret is `secret`. What is sealed may be another
 * secret, or sealed to another request.
 */
export async function forgeAnswer(
  network: TestNetwork,
  request: RequestMessage,
  secret: Uint8Array,
  otherwise: { secret?: Uint8Array; kemPublicKey?: string } = {},
): Promise<{ answer: AnswerMessage; sealed: SealedMessage }> {
  const { hash } = requestOf(request);
  const bytes = await seal(
    otherwise.secret ?? secret,
    request.epoch,
    fromHex(otherwise.kemPublicKey ?? request.kemPublicKey),
    hash,
  );
  const evidence = {
    measurement: measurementOf(registersOf()),
    config: fromHex(request.config),
    platform: createSimulatedPlatform({ ppid: ppidOf(network) }).platformId,
  };
  const digest = onboardDigest(network.domain, {
    ...evidence,
    node: request.node,
    requestHash: hash,
    answerHash: answerHash(bytes),
  });
  const answer: AnswerMessage = {
    type: 'answer',
    ...network.domain,
    node: request.node,
    requestHash: toHex(hash),
    answerHash: toHex(answerHash(bytes)),
    measurement: toHex(evidence.measurement),
    config: request.config,
    platform: toHex(evidence.platform),
    signature: compact(sign(digest, networkKey(secret, request.epoch).privateKey)),
  };
  const sealed = {
    type: 'sealed' as const,
    ...network.domain,
    requestHash: toHex(hash),
    sealed: toHex(bytes),
  };
  return { answer, sealed };
}

/**
 * A forged PCK chain for the platform with this PPID, DER: same names, roles, extensions and leaf key, but issued by a root that
 * nobody trusts.
 */
export function ownChain(ppid: Uint8Array): Uint8Array[] {
  const rootKey = simulatedKey(utf8("a root of one's own"));
  const authorityKey = simulatedKey(utf8("an authority of one's own"));
  const root = issue({
    subject: SIMULATED_ROLES.root,
    publicKey: rootKey.publicKey,
    issuer: SIMULATED_ROLES.root,
    issuerKey: rootKey,
    extensions: authorityExtensions(1),
  });
  const intermediate = issue({
    subject: SIMULATED_PLATFORM_CA,
    publicKey: authorityKey.publicKey,
    issuer: SIMULATED_ROLES.root,
    issuerKey: rootKey,
    extensions: authorityExtensions(0),
  });
  const leaf = simulatedPckCertificate(simulatedPckKey(ppid).publicKey, sgxExtensionOf(ppid), authorityKey);
  return [leaf, intermediate, root];
}

/** The same statement signed by an attestation key that no quoting enclave vouched for. */
export function byOwnAttestationKey(quote: Uint8Array): Uint8Array {
  const key = simulatedKey(utf8("an attestation key of one's own"));
  const { signedBytes, signature, attestationKey } = parseQuote(quote);
  const out = Uint8Array.from(quote);
  out.set(key.sign(signedBytes, 'r-s'), signature.byteOffset - quote.byteOffset);
  out.set(key.publicKey, attestationKey.byteOffset - quote.byteOffset);
  return out;
}

/** SHA-256 of some text: a recognisable secret. */
export const secretOf = (text: string): Uint8Array => sha256(utf8(text));

async function epochOf(network: Forgeable): Promise<number> {
  return decodeNetwork(await network.rpc.call({ to: network.contract, data: encodeNetwork() })).epoch;
}
