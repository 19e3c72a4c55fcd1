// GENERATED from contracts/Network.sol by `npm run bindings`: do not edit.

/**
 * The network's contract as TypeScript: `encodeX(args)` makes the calldata of a call or transaction, `decodeX(data)` reads
 * what a view returned, `parseNetworkEvent` reads a log and `parseNetworkError` what a refused call reverted with.
 *
 * Addresses and bytes are `0x` strings (hex.ts), addresses checksummed, and bytes are taken without `0x` too; uints of up to 48 bits are numbers, larger ones
 * bigints. What a decoder is given comes from a node that nobody trusts: anything else than the expected bytes is a
 * `CONTRACT_DATA_INVALID`. Whether a well-formed answer is true is for the reader of the chain to judge.
 */
import {
  address,
  bigUint,
  bool,
  bytes,
  type Codec,
  type Decoded,
  decodeStrictly,
  enumOf,
  fixedBytes,
  listOf,
  smallUint,
  struct,
  text,
} from './abi.ts';
import type { Address, Hex } from './hex.ts';

const requestStateCodec = enumOf(['none', 'open', 'answered', 'expired']);
/** One of the contract's enum; INetwork.sol says what each means. */
export type RequestState = Decoded<typeof requestStateCodec>;

/** See INetwork.sol for the fields' meaning. */
export interface AppView {
  readonly app: Hex;
  readonly manifestHash: Hex;
  readonly latest: Hex;
  readonly from: bigint;
}
const appViewCodec: Codec<AppView> = struct({
  app: fixedBytes(32),
  manifestHash: fixedBytes(32),
  latest: fixedBytes(32),
  from: bigUint(64),
});

/** See INetwork.sol for the fields' meaning. */
export interface FmspcView {
  readonly fmspc: Hex;
  readonly deniedUntil: bigint;
}
const fmspcViewCodec: Codec<FmspcView> = struct({ fmspc: fixedBytes(6), deniedUntil: bigUint(64) });

/** See INetwork.sol for the fields' meaning. */
export interface NetworkView {
  readonly networkKey: Address;
  readonly epoch: number;
  readonly onboarded: boolean;
  readonly delay: number;
  readonly requestWindow: number;
  readonly platformsOpen: boolean;
}
const networkViewCodec: Codec<NetworkView> = struct({
  networkKey: address,
  epoch: smallUint(32),
  onboarded: bool,
  delay: smallUint(32),
  requestWindow: smallUint(32),
  platformsOpen: bool,
});

/** See INetwork.sol for the fields' meaning. */
export interface RequestView {
  readonly state: RequestState;
  readonly node: Address;
  readonly blockNumber: bigint;
  readonly expiresAfter: bigint;
  readonly epoch: number;
  readonly answerHash: Hex;
}
const requestViewCodec: Codec<RequestView> = struct({
  state: requestStateCodec,
  node: address,
  blockNumber: bigUint(64),
  expiresAfter: bigUint(64),
  epoch: smallUint(32),
  answerHash: fixedBytes(32),
});

/** `acceptOwnership` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeAcceptOwnership(): string {
  return '0x79ba5097';
}

/** The arguments of `allowConfig`. */
export interface AllowConfigArgs {
  readonly config: string;
}

const allowConfigCodec: Codec<AllowConfigArgs> = struct({ config: fixedBytes(32) });
/** Lets nodes with this configuration join, after the delay. Only the owner. */
export function encodeAllowConfig(args: AllowConfigArgs): string {
  return `0x096d3130${allowConfigCodec.encode(args)}`;
}

/** The arguments of `allowMeasurement`. */
export interface AllowMeasurementArgs {
  readonly measurement: string;
}

const allowMeasurementCodec: Codec<AllowMeasurementArgs> = struct({ measurement: fixedBytes(32) });
/** Lets nodes of this measurement join, after the delay. Only the owner. */
export function encodeAllowMeasurement(args: AllowMeasurementArgs): string {
  return `0xe63c159d${allowMeasurementCodec.encode(args)}`;
}

/** The arguments of `allowPlatform`. */
export interface AllowPlatformArgs {
  readonly platform: string;
}

const allowPlatformCodec: Codec<AllowPlatformArgs> = struct({ platform: fixedBytes(32) });
/** Lists this platform, after the delay (at once when platforms are open and it is not revoked, for then it may join anyway). Only the owner. */
export function encodeAllowPlatform(args: AllowPlatformArgs): string {
  return `0x640cc749${allowPlatformCodec.encode(args)}`;
}

/** The arguments of `appOf`. */
export interface AppOfArgs {
  readonly app: string;
}

const appOfCodec: Codec<AppOfArgs> = struct({ app: fixedBytes(32) });
/** One app; all zero but the name if it was never rolled out. */
export function encodeAppOf(args: AppOfArgs): string {
  return `0x0ac6bc91${appOfCodec.encode(args)}`;
}

const appOfResultCodec = struct({ value: appViewCodec });
/** What `appOf` returned. */
export function decodeAppOf(data: string): AppView {
  return decodeStrictly(appOfResultCodec, data, 'answer to appOf').value;
}

/** The arguments of `appsAfter`. */
export interface AppsAfterArgs {
  readonly skipped: bigint;
  readonly most: bigint;
}

const appsAfterCodec: Codec<AppsAfterArgs> = struct({ skipped: bigUint(256), most: bigUint(256) });
/** A page of the apps that have a manifest, pending or in force, in the order of their first rollouts. `skipped` is 0 for the first page, then each page's `next`, which is 0 after the last one. A page has at most `most` apps, and fewer, or none, after many that were withdrawn: a call looks at a bounded number of names. */
export function encodeAppsAfter(args: AppsAfterArgs): string {
  return `0xf725f5ec${appsAfterCodec.encode(args)}`;
}

/** What `appsAfter` returns. */
export interface AppsAfterResult {
  readonly list: readonly AppView[];
  readonly next: bigint;
}
const appsAfterResultCodec: Codec<AppsAfterResult> = struct({
  list: listOf(appViewCodec),
  next: bigUint(256),
});
/** What `appsAfter` returned. */
export function decodeAppsAfter(data: string): AppsAfterResult {
  return decodeStrictly(appsAfterResultCodec, data, 'answer to appsAfter');
}

/** The arguments of `bootstrap`. */
export interface BootstrapArgs {
  readonly networkKey: string;
  readonly measurement: string;
  readonly config: string;
  readonly platform: string;
  readonly quoteHash: string;
  readonly blockNumber: bigint;
  readonly blockHash: string;
  readonly r: string;
  readonly vs: string;
}

const bootstrapCodec: Codec<BootstrapArgs> = struct({
  networkKey: address,
  measurement: fixedBytes(32),
  config: fixedBytes(32),
  platform: fixedBytes(32),
  quoteHash: fixedBytes(32),
  blockNumber: bigUint(64),
  blockHash: fixedBytes(32),
  r: fixedBytes(32),
  vs: fixedBytes(32),
});
/** Gives the network its key. Only the owner; only until the first node is onboarded; raises the epoch. */
export function encodeBootstrap(args: BootstrapArgs): string {
  return `0x86ba139e${bootstrapCodec.encode(args)}`;
}

/** Lets only listed platforms join, at once. Only the owner. */
export function encodeClosePlatforms(): string {
  return '0x072f5687';
}

/** The arguments of `configAllowedFrom`. */
export interface ConfigAllowedFromArgs {
  readonly config: string;
}

const configAllowedFromCodec: Codec<ConfigAllowedFromArgs> = struct({ config: fixedBytes(32) });
/** Since or from when (Unix seconds) the configuration is allowed; 0 if it isn't. */
export function encodeConfigAllowedFrom(args: ConfigAllowedFromArgs): string {
  return `0x13471c12${configAllowedFromCodec.encode(args)}`;
}

const configAllowedFromResultCodec = struct({ value: bigUint(64) });
/** What `configAllowedFrom` returned. */
export function decodeConfigAllowedFrom(data: string): bigint {
  return decodeStrictly(configAllowedFromResultCodec, data, 'answer to configAllowedFrom').value;
}

/** Every FMSPC that was ever denied, in that order, those allowed again too. */
export function encodeDeniedFmspcs(): string {
  return '0xe183a4d2';
}

const deniedFmspcsResultCodec = struct({ value: listOf(fmspcViewCodec) });
/** What `deniedFmspcs` returned. */
export function decodeDeniedFmspcs(data: string): readonly FmspcView[] {
  return decodeStrictly(deniedFmspcsResultCodec, data, 'answer to deniedFmspcs').value;
}

/** `eip712Domain` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeEip712Domain(): string {
  return '0x84b0196e';
}

/** What `eip712Domain` returns. */
export interface Eip712DomainResult {
  readonly fields: Hex;
  readonly name: string;
  readonly version: string;
  readonly chainId: bigint;
  readonly verifyingContract: Address;
  readonly salt: Hex;
  readonly extensions: readonly bigint[];
}
const eip712DomainResultCodec: Codec<Eip712DomainResult> = struct({
  fields: fixedBytes(1),
  name: text,
  version: text,
  chainId: bigUint(256),
  verifyingContract: address,
  salt: fixedBytes(32),
  extensions: listOf(bigUint(256)),
});
/** What `eip712Domain` returned. */
export function decodeEip712Domain(data: string): Eip712DomainResult {
  return decodeStrictly(eip712DomainResultCodec, data, 'answer to eip712Domain');
}

/** The arguments of `fmspcDenied`. */
export interface FmspcDeniedArgs {
  readonly fmspc: string;
}

const fmspcDeniedCodec: Codec<FmspcDeniedArgs> = struct({ fmspc: fixedBytes(6) });
/** Whether platforms of this FMSPC are kept out now. */
export function encodeFmspcDenied(args: FmspcDeniedArgs): string {
  return `0xd1e96c3c${fmspcDeniedCodec.encode(args)}`;
}

const fmspcDeniedResultCodec = struct({ value: bool });
/** What `fmspcDenied` returned. */
export function decodeFmspcDenied(data: string): boolean {
  return decodeStrictly(fmspcDeniedResultCodec, data, 'answer to fmspcDenied').value;
}

/** The arguments of `isAllowed`. */
export interface IsAllowedArgs {
  readonly measurement: string;
  readonly config: string;
  readonly platform: string;
}

const isAllowedCodec: Codec<IsAllowedArgs> = struct({
  measurement: fixedBytes(32),
  config: fixedBytes(32),
  platform: fixedBytes(32),
});
/** Whether each of the three would let a node join now. */
export function encodeIsAllowed(args: IsAllowedArgs): string {
  return `0x5bcefd04${isAllowedCodec.encode(args)}`;
}

/** What `isAllowed` returns. */
export interface IsAllowedResult {
  readonly measurementAllowed: boolean;
  readonly configAllowed: boolean;
  readonly platformAllowed: boolean;
}
const isAllowedResultCodec: Codec<IsAllowedResult> = struct({
  measurementAllowed: bool,
  configAllowed: bool,
  platformAllowed: bool,
});
/** What `isAllowed` returned. */
export function decodeIsAllowed(data: string): IsAllowedResult {
  return decodeStrictly(isAllowedResultCodec, data, 'answer to isAllowed');
}

/** The arguments of `manifestOf`. */
export interface ManifestOfArgs {
  readonly app: string;
}

const manifestOfCodec: Codec<ManifestOfArgs> = struct({ app: fixedBytes(32) });
/** The manifest that is in force for an app now; zero if none. */
export function encodeManifestOf(args: ManifestOfArgs): string {
  return `0x39529516${manifestOfCodec.encode(args)}`;
}

const manifestOfResultCodec = struct({ value: fixedBytes(32) });
/** What `manifestOf` returned. */
export function decodeManifestOf(data: string): Hex {
  return decodeStrictly(manifestOfResultCodec, data, 'answer to manifestOf').value;
}

/** The arguments of `measurementAllowedFrom`. */
export interface MeasurementAllowedFromArgs {
  readonly measurement: string;
}

const measurementAllowedFromCodec: Codec<MeasurementAllowedFromArgs> = struct({
  measurement: fixedBytes(32),
});
/** Since or from when (Unix seconds) the measurement is allowed; 0 if it isn't. */
export function encodeMeasurementAllowedFrom(args: MeasurementAllowedFromArgs): string {
  return `0x5918e2bd${measurementAllowedFromCodec.encode(args)}`;
}

const measurementAllowedFromResultCodec = struct({ value: bigUint(64) });
/** What `measurementAllowedFrom` returned. */
export function decodeMeasurementAllowedFrom(data: string): bigint {
  return decodeStrictly(measurementAllowedFromResultCodec, data, 'answer to measurementAllowedFrom').value;
}

/** The network in one call. */
export function encodeNetwork(): string {
  return '0x6739afca';
}

const networkResultCodec = struct({ value: networkViewCodec });
/** What `network` returned. */
export function decodeNetwork(data: string): NetworkView {
  return decodeStrictly(networkResultCodec, data, 'answer to network').value;
}

/** The delay that was set last and since or from when (Unix seconds) it holds; `from` is 0 for one that was not set by shortening. */
export function encodeNextDelay(): string {
  return '0x7478015c';
}

/** What `nextDelay` returns. */
export interface NextDelayResult {
  readonly delay: number;
  readonly from: bigint;
}
const nextDelayResultCodec: Codec<NextDelayResult> = struct({ delay: smallUint(32), from: bigUint(64) });
/** What `nextDelay` returned. */
export function decodeNextDelay(data: string): NextDelayResult {
  return decodeStrictly(nextDelayResultCodec, data, 'answer to nextDelay');
}

/** Each part of the TCB policy as it was set last, and since or from when (Unix seconds) it holds wholly; 0 for one that was never set. */
export function encodeNextTcbPolicy(): string {
  return '0xd74d4a32';
}

/** What `nextTcbPolicy` returns. */
export interface NextTcbPolicyResult {
  readonly minimumTcbEvaluationDataNumber: number;
  readonly minimumFrom: bigint;
  readonly statuses: number;
  readonly statusesFrom: bigint;
  readonly gracePeriod: number;
  readonly gracePeriodFrom: bigint;
}
const nextTcbPolicyResultCodec: Codec<NextTcbPolicyResult> = struct({
  minimumTcbEvaluationDataNumber: smallUint(32),
  minimumFrom: bigUint(64),
  statuses: smallUint(16),
  statusesFrom: bigUint(64),
  gracePeriod: smallUint(32),
  gracePeriodFrom: bigUint(64),
});
/** What `nextTcbPolicy` returned. */
export function decodeNextTcbPolicy(data: string): NextTcbPolicyResult {
  return decodeStrictly(nextTcbPolicyResultCodec, data, 'answer to nextTcbPolicy');
}

/** The arguments of `onboard`. */
export interface OnboardArgs {
  readonly requestHash: string;
  readonly measurement: string;
  readonly config: string;
  readonly platform: string;
  readonly answerHash: string;
  readonly r: string;
  readonly vs: string;
}

const onboardCodec: Codec<OnboardArgs> = struct({
  requestHash: fixedBytes(32),
  measurement: fixedBytes(32),
  config: fixedBytes(32),
  platform: fixedBytes(32),
  answerHash: fixedBytes(32),
  r: fixedBytes(32),
  vs: fixedBytes(32),
});
/** Records the network's answer to an open request, once. Posted by the requester's relay. The first one closes bootstrap for ever. */
export function encodeOnboard(args: OnboardArgs): string {
  return `0x40e87c0b${onboardCodec.encode(args)}`;
}

/** Lets any platform join that is not revoked, after the delay. Only the owner. */
export function encodeOpenPlatforms(): string {
  return '0x976818ac';
}

/** `owner` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeOwner(): string {
  return '0x8da5cb5b';
}

const ownerResultCodec = struct({ value: address });
/** What `owner` returned. */
export function decodeOwner(data: string): Address {
  return decodeStrictly(ownerResultCodec, data, 'answer to owner').value;
}

/** `pendingOwner` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodePendingOwner(): string {
  return '0xe30c3978';
}

const pendingOwnerResultCodec = struct({ value: address });
/** What `pendingOwner` returned. */
export function decodePendingOwner(data: string): Address {
  return decodeStrictly(pendingOwnerResultCodec, data, 'answer to pendingOwner').value;
}

/** The arguments of `platformAllowedFrom`. */
export interface PlatformAllowedFromArgs {
  readonly platform: string;
}

const platformAllowedFromCodec: Codec<PlatformAllowedFromArgs> = struct({ platform: fixedBytes(32) });
/** Since or from when (Unix seconds) the platform is listed; 0 if it isn't, 2^64-1 if it is revoked. */
export function encodePlatformAllowedFrom(args: PlatformAllowedFromArgs): string {
  return `0x4fee45f6${platformAllowedFromCodec.encode(args)}`;
}

const platformAllowedFromResultCodec = struct({ value: bigUint(64) });
/** What `platformAllowedFrom` returned. */
export function decodePlatformAllowedFrom(data: string): bigint {
  return decodeStrictly(platformAllowedFromResultCodec, data, 'answer to platformAllowedFrom').value;
}

/** Since or from when (Unix seconds) platforms are open; 0 if they are not. */
export function encodePlatformsOpenFrom(): string {
  return '0x527ec8d7';
}

const platformsOpenFromResultCodec = struct({ value: bigUint(64) });
/** What `platformsOpenFrom` returned. */
export function decodePlatformsOpenFrom(data: string): bigint {
  return decodeStrictly(platformsOpenFromResultCodec, data, 'answer to platformsOpenFrom').value;
}

/** The arguments of `register`. */
export interface RegisterArgs {
  readonly node: string;
  readonly kemKeyHash: string;
  readonly quoteHash: string;
  readonly blockNumber: bigint;
  readonly config: string;
  readonly r: string;
  readonly vs: string;
}

const registerCodec: Codec<RegisterArgs> = struct({
  node: address,
  kemKeyHash: fixedBytes(32),
  quoteHash: fixedBytes(32),
  blockNumber: bigUint(64),
  config: fixedBytes(32),
  r: fixedBytes(32),
  vs: fixedBytes(32),
});
/** Asks to join. Anyone may post it; the request hash, which is `Request`'s EIP-712 struct hash, is computed here from the block's hash as this chain has it and the present epoch. So nobody can take a request's slot with another node's key or revive a stale request; who copies the transaction only pays for it. */
export function encodeRegister(args: RegisterArgs): string {
  return `0x4a12e8af${registerCodec.encode(args)}`;
}

/** The arguments of `request`. */
export interface RequestArgs {
  readonly requestHash: string;
}

const requestCodec: Codec<RequestArgs> = struct({ requestHash: fixedBytes(32) });
/** A request by its hash. "Now" is the block that the call runs in. */
export function encodeRequest(args: RequestArgs): string {
  return `0x59c87d70${requestCodec.encode(args)}`;
}

const requestResultCodec = struct({ value: requestViewCodec });
/** What `request` returned. */
export function decodeRequest(data: string): RequestView {
  return decodeStrictly(requestResultCodec, data, 'answer to request').value;
}

/** The arguments of `requestsByHash`. */
export interface RequestsByHashArgs {
  readonly requestHashes: readonly string[];
}

const requestsByHashCodec: Codec<RequestsByHashArgs> = struct({ requestHashes: listOf(fixedBytes(32)) });
/** Requests by their hashes, in that order: `request` of many in one call. */
export function encodeRequestsByHash(args: RequestsByHashArgs): string {
  return `0xfacad9fb${requestsByHashCodec.encode(args)}`;
}

const requestsByHashResultCodec = struct({ value: listOf(requestViewCodec) });
/** What `requestsByHash` returned. */
export function decodeRequestsByHash(data: string): readonly RequestView[] {
  return decodeStrictly(requestsByHashResultCodec, data, 'answer to requestsByHash').value;
}

/** The arguments of `revokeConfig`. */
export interface RevokeConfigArgs {
  readonly config: string;
}

const revokeConfigCodec: Codec<RevokeConfigArgs> = struct({ config: fixedBytes(32) });
/** Lets no more nodes with this configuration join, at once. Only the owner. */
export function encodeRevokeConfig(args: RevokeConfigArgs): string {
  return `0x48927066${revokeConfigCodec.encode(args)}`;
}

/** The arguments of `revokeMeasurement`. */
export interface RevokeMeasurementArgs {
  readonly measurement: string;
}

const revokeMeasurementCodec: Codec<RevokeMeasurementArgs> = struct({ measurement: fixedBytes(32) });
/** Lets no more nodes of this measurement join, at once. Only the owner. */
export function encodeRevokeMeasurement(args: RevokeMeasurementArgs): string {
  return `0xcfcc75c5${revokeMeasurementCodec.encode(args)}`;
}

/** The arguments of `revokePlatform`. */
export interface RevokePlatformArgs {
  readonly platform: string;
}

const revokePlatformCodec: Codec<RevokePlatformArgs> = struct({ platform: fixedBytes(32) });
/** Keeps this platform out, at once, listed before or not, be platforms open or not. Only the owner. */
export function encodeRevokePlatform(args: RevokePlatformArgs): string {
  return `0xf1a52469${revokePlatformCodec.encode(args)}`;
}

/** The arguments of `rollback`. */
export interface RollbackArgs {
  readonly app: string;
}

const rollbackCodec: Codec<RollbackArgs> = struct({ app: fixedBytes(32) });
/** Cancels a pending rollout, or else goes back to the previous manifest, at once. What was left this way can come back only by a rollout with its delay, so a second rollback in a row is refused. Only the owner. */
export function encodeRollback(args: RollbackArgs): string {
  return `0xcfb13928${rollbackCodec.encode(args)}`;
}

/** The arguments of `rollout`. */
export interface RolloutArgs {
  readonly app: string;
  readonly manifestHash: string;
}

const rolloutCodec: Codec<RolloutArgs> = struct({ app: fixedBytes(32), manifestHash: fixedBytes(32) });
/** Makes an app run this manifest, after the delay; until then the present one stays in force. Replaces a rollout that is still pending, and its time begins anew. Only the owner. */
export function encodeRollout(args: RolloutArgs): string {
  return `0xc9c4ead2${rolloutCodec.encode(args)}`;
}

/** The arguments of `setAcceptedTcbStatuses`. */
export interface SetAcceptedTcbStatusesArgs {
  readonly statuses: number;
}

const setAcceptedTcbStatusesCodec: Codec<SetAcceptedTcbStatusesArgs> = struct({ statuses: smallUint(16) });
/** Sets which TCB statuses are accepted: fewer at once, more after the delay. Only the owner. */
export function encodeSetAcceptedTcbStatuses(args: SetAcceptedTcbStatusesArgs): string {
  return `0xe5316c93${setAcceptedTcbStatusesCodec.encode(args)}`;
}

/** The arguments of `setDelay`. */
export interface SetDelayArgs {
  readonly delay: number;
}

const setDelayCodec: Codec<SetDelayArgs> = struct({ delay: smallUint(32) });
/** Sets the delay: a longer one at once, a shorter one after the present one. It replaces a shorter one that is still to come. What is pending keeps its time. Only the owner. */
export function encodeSetDelay(args: SetDelayArgs): string {
  return `0x10348665${setDelayCodec.encode(args)}`;
}

/** The arguments of `setDeniedFmspc`. */
export interface SetDeniedFmspcArgs {
  readonly fmspc: string;
  readonly denied: boolean;
}

const setDeniedFmspcCodec: Codec<SetDeniedFmspcArgs> = struct({ fmspc: fixedBytes(6), denied: bool });
/** Keeps all platforms of this FMSPC out, at once, whatever else holds; or does so no longer, after the delay. Denying it again cancels that. Only the owner. */
export function encodeSetDeniedFmspc(args: SetDeniedFmspcArgs): string {
  return `0xf836411e${setDeniedFmspcCodec.encode(args)}`;
}

/** The arguments of `setMinimumTcbEvaluationNumber`. */
export interface SetMinimumTcbEvaluationNumberArgs {
  readonly tcbEvaluationDataNumber: number;
}

const setMinimumTcbEvaluationNumberCodec: Codec<SetMinimumTcbEvaluationNumberArgs> = struct({
  tcbEvaluationDataNumber: smallUint(32),
});
/** Sets the lowest `tcbEvaluationDataNumber` that TCB info and QE identity may have: a higher one at once, a lower one after the delay. Only the owner. */
export function encodeSetMinimumTcbEvaluationNumber(args: SetMinimumTcbEvaluationNumberArgs): string {
  return `0xd2cc77d7${setMinimumTcbEvaluationNumberCodec.encode(args)}`;
}

/** The arguments of `setTcbOutOfDateGrace`. */
export interface SetTcbOutOfDateGraceArgs {
  readonly gracePeriod: number;
}

const setTcbOutOfDateGraceCodec: Codec<SetTcbOutOfDateGraceArgs> = struct({ gracePeriod: smallUint(32) });
/** Sets how long platforms that are out of date (OutOfDate, OutOfDateConfigurationNeeded) are accepted all the same: shorter at once, longer after the delay. Only the owner. */
export function encodeSetTcbOutOfDateGrace(args: SetTcbOutOfDateGraceArgs): string {
  return `0xe10637b3${setTcbOutOfDateGraceCodec.encode(args)}`;
}

/** The TCB policy in force now. Who judges a quote reads this and `fmspcDenied` at one block. */
export function encodeTcbPolicy(): string {
  return '0xf78b5f6d';
}

/** What `tcbPolicy` returns. */
export interface TcbPolicyResult {
  readonly minimumTcbEvaluationDataNumber: number;
  readonly statuses: number;
  readonly gracePeriod: number;
}
const tcbPolicyResultCodec: Codec<TcbPolicyResult> = struct({
  minimumTcbEvaluationDataNumber: smallUint(32),
  statuses: smallUint(16),
  gracePeriod: smallUint(32),
});
/** What `tcbPolicy` returned. */
export function decodeTcbPolicy(data: string): TcbPolicyResult {
  return decodeStrictly(tcbPolicyResultCodec, data, 'answer to tcbPolicy');
}

/** The arguments of `transferOwnership`. */
export interface TransferOwnershipArgs {
  readonly newOwner: string;
}

const transferOwnershipCodec: Codec<TransferOwnershipArgs> = struct({ newOwner: address });
/** `transferOwnership` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeTransferOwnership(args: TransferOwnershipArgs): string {
  return `0xf2fde38b${transferOwnershipCodec.encode(args)}`;
}

/** The arguments of `verifyAttestation`. */
export interface VerifyAttestationArgs {
  readonly app: string;
  readonly tag: string;
  readonly data: string;
  readonly v: number;
  readonly r: string;
  readonly s: string;
}

const verifyAttestationCodec: Codec<VerifyAttestationArgs> = struct({
  app: fixedBytes(32),
  tag: text,
  data: bytes,
  v: smallUint(8),
  r: fixedBytes(32),
  s: fixedBytes(32),
});
/** Whether an app of this network attested this: the present network key signed `Attestation`. */
export function encodeVerifyAttestation(args: VerifyAttestationArgs): string {
  return `0x592779b6${verifyAttestationCodec.encode(args)}`;
}

const verifyAttestationResultCodec = struct({ value: bool });
/** What `verifyAttestation` returned. */
export function decodeVerifyAttestation(data: string): boolean {
  return decodeStrictly(verifyAttestationResultCodec, data, 'answer to verifyAttestation').value;
}

/** The arguments of `withdraw`. */
export interface WithdrawArgs {
  readonly app: string;
}

const withdrawCodec: Codec<WithdrawArgs> = struct({ app: fixedBytes(32) });
/** Leaves the app without a manifest, pending or in force, at once. Only the owner. */
export function encodeWithdraw(args: WithdrawArgs): string {
  return `0x8e19899e${withdrawCodec.encode(args)}`;
}

/** An event of the contract. */
export type NetworkEvent =
  /** Platforms of these statuses (bits) may join from `from` (Unix seconds) on. Statuses in force that are not among them are no longer accepted, at once. */
  | { readonly name: 'AcceptedTcbStatusesSet'; readonly statuses: number; readonly from: bigint }
  /** The network has a (new) key. Everything that the network key signed for goes in, so that an audit can find the bootstrap quote without tracing the owner's multisig. */
  | {
      readonly name: 'Bootstrapped';
      readonly epoch: bigint;
      readonly networkKey: Address;
      readonly measurement: Hex;
      readonly config: Hex;
      readonly platform: Hex;
      readonly quoteHash: Hex;
      readonly blockNumber: bigint;
      readonly blockHash: Hex;
    }
  /** Nodes with this `network.json` may join from `from` (Unix seconds) on. */
  | { readonly name: 'ConfigAllowed'; readonly config: Hex; readonly from: bigint }
  /** Nodes with this `network.json` may no longer join. */
  | { readonly name: 'ConfigRevoked'; readonly config: Hex }
  /** Loosening takes `delay` seconds from `from` (Unix seconds) on. */
  | { readonly name: 'DelaySet'; readonly delay: number; readonly from: bigint }
  | { readonly name: 'EIP712DomainChanged' }
  /** Platforms of this FMSPC may join again from `from` (Unix seconds) on. */
  | { readonly name: 'FmspcAllowed'; readonly fmspc: Hex; readonly from: bigint }
  /** Platforms of this FMSPC may no longer join. */
  | { readonly name: 'FmspcDenied'; readonly fmspc: Hex }
  /** Nodes of this measurement may join from `from` (Unix seconds) on. */
  | { readonly name: 'MeasurementAllowed'; readonly measurement: Hex; readonly from: bigint }
  /** Nodes of this measurement may no longer join. Those that have joined keep the secret. */
  | { readonly name: 'MeasurementRevoked'; readonly measurement: Hex }
  /** Collateral must be of this TCB evaluation or a later one: from `from` (Unix seconds) on if this is lower than what was in force, at once if not. */
  | {
      readonly name: 'MinimumTcbEvaluationNumberSet';
      readonly tcbEvaluationDataNumber: number;
      readonly from: bigint;
    }
  /** A node's request was answered. Who asked is in `Registered`, the answer's hash in the state, the rest in the transaction: an event's word costs as much as half one of calldata, and every node that joins pays for these. */
  | {
      readonly name: 'Onboarded';
      readonly requestHash: Hex;
      readonly measurement: Hex;
      readonly platform: Hex;
    }
  | { readonly name: 'OwnershipTransferStarted'; readonly previousOwner: Address; readonly newOwner: Address }
  | { readonly name: 'OwnershipTransferred'; readonly previousOwner: Address; readonly newOwner: Address }
  /** Nodes on this platform may join from `from` (Unix seconds) on. */
  | { readonly name: 'PlatformAllowed'; readonly platform: Hex; readonly from: bigint }
  /** Nodes on this platform may no longer join, be platforms open or not. */
  | { readonly name: 'PlatformRevoked'; readonly platform: Hex }
  /** Only listed platforms may join. */
  | { readonly name: 'PlatformsClosed' }
  /** Any platform that was not revoked may join from `from` (Unix seconds) on. */
  | { readonly name: 'PlatformsOpened'; readonly from: bigint }
  /** A node asks to join; the request itself travels by gossip. */
  | { readonly name: 'Registered'; readonly requestHash: Hex; readonly node: Address }
  /** The app is back at this manifest, at once; zero when it has none. */
  | { readonly name: 'RolledBack'; readonly app: Hex; readonly manifestHash: Hex }
  /** The app runs this manifest from `from` (Unix seconds) on. */
  | { readonly name: 'RolledOut'; readonly app: Hex; readonly manifestHash: Hex; readonly from: bigint }
  /** Platforms that are out of date may join for so many seconds: from `from` (Unix seconds) on if this is longer than what was in force, at once if not. */
  | { readonly name: 'TcbOutOfDateGraceSet'; readonly gracePeriod: number; readonly from: bigint }
  /** The app has no manifest any more. */
  | { readonly name: 'Withdrawn'; readonly app: Hex };

/** Each event's first topic, for filters. */
export const networkTopics = {
  AcceptedTcbStatusesSet: '0x9ff1d41f0273dda91eb1a9d3bdd78e05ccefaed249fb41668c23b8c7242fc4ea',
  Bootstrapped: '0xc814684b8a9e1e4146f880b5b38a1e9cadda92320a33a47dcd057711c47b4c60',
  ConfigAllowed: '0xf60f1f36bec5d305fb016bd00f0276077aab1bf72600ea3e32d954c6142820c3',
  ConfigRevoked: '0xfdde4bfc1a9ef28a2e3dbe34a4ccc65b0ad588f6b0406e492637aeaa73342160',
  DelaySet: '0xcb4f02f4eeaed600f22317ad9e28761f61e37f33d74e72a6007cc41cfb8ad95e',
  EIP712DomainChanged: '0x0a6387c9ea3628b88a633bb4f3b151770f70085117a15f9bf3787cda53f13d31',
  FmspcAllowed: '0xeb124b2ce5e3c391bb92a581e151d14e2142f75cf5356ea179534cc1f094b237',
  FmspcDenied: '0x1badef2b0bd9f3723a19371020a103b5700400941ee2c33ffaf483086e2bc703',
  MeasurementAllowed: '0x42b08a849b7943e3a148a6aa0c5df868ab3545ab83a7bbf7ea64ede8043eac40',
  MeasurementRevoked: '0xd647711c0ef13ba6fb306e9195aed8a5d15d9cfd22b0ac0c2058f0bdc4936311',
  MinimumTcbEvaluationNumberSet: '0x61145854aac5bfceba83aaec27cbd000f280168c70b776cd1522dd1d7d96b523',
  Onboarded: '0x277890f02d178fbc38cf3ba141c83a705445b5417018ca01374540f158997c60',
  OwnershipTransferStarted: '0x38d16b8cac22d99fc7c124b9cd0de2d3fa1faef420bfe791d8c362d765e22700',
  OwnershipTransferred: '0x8be0079c531659141344cd1fd0a4f28419497f9722a3daafe3b4186f6b6457e0',
  PlatformAllowed: '0x739717c99119734b5089290f9fec23dd0f6481e016cec4af9a894b5ecafbe91b',
  PlatformRevoked: '0x87ca75005abcb7043238d06e91c1d3ea8984795f484b6f3057c946462b49b27a',
  PlatformsClosed: '0x1bf4088dbf694b8f924beec082f7c35bad67fdce7202da6d708480389b1ba9a1',
  PlatformsOpened: '0xfc14d9912fa43081268648e2860a8fe71bcefb486fd50ee0fafdc364b3f39a1d',
  Registered: '0x7d917fcbc9a29a9705ff9936ffa599500e4fd902e4486bae317414fe967b307c',
  RolledBack: '0xe12147067b0952481fce046b54a586c580b87adc0ea835003c7bc9def4f42649',
  RolledOut: '0x2285190ae56273c5af7f263c509a8d91ac78eff066d3d1e63ca51b36c45b10a8',
  TcbOutOfDateGraceSet: '0x2c22233b85ebde2879fd33b42027439a5583e79a7b8590c4e075b1c715d36878',
  Withdrawn: '0x44654674e66e9e53d34afdf3e9513fb94b4c8b946e980d6958ef4e6a37a153e3',
} as const;

const networkEvents = {
  AcceptedTcbStatusesSet: {
    indexed: struct({}),
    data: struct({ statuses: smallUint(16), from: bigUint(64) }),
  },
  Bootstrapped: {
    indexed: struct({}),
    data: struct({
      epoch: bigUint(64),
      networkKey: address,
      measurement: fixedBytes(32),
      config: fixedBytes(32),
      platform: fixedBytes(32),
      quoteHash: fixedBytes(32),
      blockNumber: bigUint(64),
      blockHash: fixedBytes(32),
    }),
  },
  ConfigAllowed: { indexed: struct({ config: fixedBytes(32) }), data: struct({ from: bigUint(64) }) },
  ConfigRevoked: { indexed: struct({ config: fixedBytes(32) }), data: struct({}) },
  DelaySet: { indexed: struct({}), data: struct({ delay: smallUint(32), from: bigUint(64) }) },
  EIP712DomainChanged: { indexed: struct({}), data: struct({}) },
  FmspcAllowed: { indexed: struct({ fmspc: fixedBytes(6) }), data: struct({ from: bigUint(64) }) },
  FmspcDenied: { indexed: struct({ fmspc: fixedBytes(6) }), data: struct({}) },
  MeasurementAllowed: {
    indexed: struct({ measurement: fixedBytes(32) }),
    data: struct({ from: bigUint(64) }),
  },
  MeasurementRevoked: { indexed: struct({ measurement: fixedBytes(32) }), data: struct({}) },
  MinimumTcbEvaluationNumberSet: {
    indexed: struct({}),
    data: struct({ tcbEvaluationDataNumber: smallUint(32), from: bigUint(64) }),
  },
  Onboarded: {
    indexed: struct({ requestHash: fixedBytes(32) }),
    data: struct({ measurement: fixedBytes(32), platform: fixedBytes(32) }),
  },
  OwnershipTransferStarted: {
    indexed: struct({ previousOwner: address, newOwner: address }),
    data: struct({}),
  },
  OwnershipTransferred: { indexed: struct({ previousOwner: address, newOwner: address }), data: struct({}) },
  PlatformAllowed: { indexed: struct({ platform: fixedBytes(32) }), data: struct({ from: bigUint(64) }) },
  PlatformRevoked: { indexed: struct({ platform: fixedBytes(32) }), data: struct({}) },
  PlatformsClosed: { indexed: struct({}), data: struct({}) },
  PlatformsOpened: { indexed: struct({}), data: struct({ from: bigUint(64) }) },
  Registered: { indexed: struct({ requestHash: fixedBytes(32) }), data: struct({ node: address }) },
  RolledBack: { indexed: struct({ app: fixedBytes(32) }), data: struct({ manifestHash: fixedBytes(32) }) },
  RolledOut: {
    indexed: struct({ app: fixedBytes(32) }),
    data: struct({ manifestHash: fixedBytes(32), from: bigUint(64) }),
  },
  TcbOutOfDateGraceSet: {
    indexed: struct({}),
    data: struct({ gracePeriod: smallUint(32), from: bigUint(64) }),
  },
  Withdrawn: { indexed: struct({ app: fixedBytes(32) }), data: struct({}) },
};
const eventNames = new Map(
  Object.entries(networkTopics).map(([name, topic]) => [topic as string, name as keyof typeof networkTopics]),
);

/**
 * Reads a log that the contract emitted; the caller has checked its address.
 *
 * @returns undefined for an event that is not the contract's
 * @throws DstackError `CONTRACT_DATA_INVALID` for one that is, with data that is not
 */
export function parseNetworkEvent(log: {
  readonly topics: readonly string[];
  readonly data: string;
}): NetworkEvent | undefined {
  const [topic, ...indexed] = log.topics;
  const name = eventNames.get(topic?.toLowerCase() ?? '');
  if (name === undefined) return undefined;
  const event = networkEvents[name];
  const inTopics = decodeStrictly(event.indexed, `0x${indexed.map(wordOf).join('')}`, `topics of ${name}`);
  return { name, ...inTopics, ...decodeStrictly(event.data, log.data, name) } as NetworkEvent;
}

/** A topic is one word; of another length it fits no event. */
function wordOf(topic: string): string {
  return topic.length === 66 ? topic.slice(2) : '';
}

/** A refusal of the contract. */
export type NetworkError =
  /** It is allowed, or will be once its delay is over; asking again changes neither. */
  | { readonly name: 'AlreadyAllowed'; readonly value: Hex; readonly from: bigint }
  /** A node was onboarded, so the secret lives in more than one place and can't be replaced by bootstrap. */
  | { readonly name: 'BootstrapClosed' }
  /** The configuration is not allowed now. */
  | { readonly name: 'ConfigNotAllowed'; readonly config: Hex }
  /** A delay of more than a year is taken for a mistake: it could not be undone before it has passed. */
  | { readonly name: 'DelayTooLong'; readonly delay: number; readonly longest: number }
  | { readonly name: 'ECDSAInvalidSignature' }
  | { readonly name: 'ECDSAInvalidSignatureLength'; readonly length: bigint }
  | { readonly name: 'ECDSAInvalidSignatureS'; readonly s: Hex }
  /** The FMSPC is denied already. */
  | { readonly name: 'FmspcAlreadyDenied'; readonly fmspc: Hex }
  /** The FMSPC is not denied, or will not be from `until` on; asking again changes neither. */
  | { readonly name: 'FmspcNotDenied'; readonly fmspc: Hex; readonly until: bigint }
  /** A grace period of more than ten years is taken for a mistake: accept the status OutOfDate instead. */
  | { readonly name: 'GracePeriodTooLong'; readonly gracePeriod: number; readonly longest: number }
  /** An app's name is 1 to 31 characters of a-z, 0-9 and "-", padded with zeros. */
  | { readonly name: 'InvalidAppName'; readonly app: Hex }
  | { readonly name: 'InvalidShortString' }
  /** Accepted statuses are bits: UpToDate is always one of them, Revoked and unknown ones never. */
  | { readonly name: 'InvalidTcbStatuses'; readonly statuses: number }
  /** The measurement is not allowed now. */
  | { readonly name: 'MeasurementNotAllowed'; readonly measurement: Hex }
  /** The app has no manifest. */
  | { readonly name: 'NoManifest'; readonly app: Hex }
  /** There is no manifest to go back to: one rollback after each rollout, then a rollout with its delay. */
  | { readonly name: 'NoPreviousManifest'; readonly app: Hex }
  /** There is nothing to revoke. */
  | { readonly name: 'NotAllowed'; readonly value: Hex }
  /** The network has no key yet: bootstrap first. */
  | { readonly name: 'NotBootstrapped' }
  | { readonly name: 'OwnableInvalidOwner'; readonly owner: Address }
  | { readonly name: 'OwnableUnauthorizedAccount'; readonly account: Address }
  /** The platform is not allowed now. */
  | { readonly name: 'PlatformNotAllowed'; readonly platform: Hex }
  /** Platforms are open, or will be once the delay is over; asking again changes neither. */
  | { readonly name: 'PlatformsAlreadyOpen'; readonly from: bigint }
  /** Platforms are not open. */
  | { readonly name: 'PlatformsNotOpen' }
  /** The owner can't be renounced: a network that nobody can tighten can't be defended. */
  | { readonly name: 'RenounceDisabled' }
  /** The request is open or answered already. */
  | { readonly name: 'RequestExists'; readonly requestHash: Hex }
  /** The request's window is over, or the network was bootstrapped again: make a new quote and register it. */
  | { readonly name: 'RequestExpired'; readonly requestHash: Hex }
  /** The request was never registered, or it is answered already. */
  | { readonly name: 'RequestNotOpen'; readonly requestHash: Hex }
  | { readonly name: 'StringTooLong'; readonly str: string }
  /** That block is not one of the last 256 (or not the one named): make a new quote over a recent block. */
  | { readonly name: 'UnknownBlock'; readonly blockNumber: bigint }
  /** The signature is by `signer`; it had to be by `expected`, over exactly these values on this contract. */
  | { readonly name: 'WrongSigner'; readonly expected: Address; readonly signer: Address }
  /** A request window of zero blocks would let nobody join. */
  | { readonly name: 'ZeroRequestWindow' }
  /** Zero is what storage holds for "none", so it can't be a value. */
  | { readonly name: 'ZeroValue' };

const networkErrors = {
  AlreadyAllowed: { selector: '0xc909adf4', values: struct({ value: fixedBytes(32), from: bigUint(64) }) },
  BootstrapClosed: { selector: '0x99766612', values: struct({}) },
  ConfigNotAllowed: { selector: '0xcb42bf10', values: struct({ config: fixedBytes(32) }) },
  DelayTooLong: { selector: '0xee4ed643', values: struct({ delay: smallUint(32), longest: smallUint(32) }) },
  ECDSAInvalidSignature: { selector: '0xf645eedf', values: struct({}) },
  ECDSAInvalidSignatureLength: { selector: '0xfce698f7', values: struct({ length: bigUint(256) }) },
  ECDSAInvalidSignatureS: { selector: '0xd78bce0c', values: struct({ s: fixedBytes(32) }) },
  FmspcAlreadyDenied: { selector: '0x0b3eae46', values: struct({ fmspc: fixedBytes(6) }) },
  FmspcNotDenied: { selector: '0xf7cfa51a', values: struct({ fmspc: fixedBytes(6), until: bigUint(64) }) },
  GracePeriodTooLong: {
    selector: '0x17d182de',
    values: struct({ gracePeriod: smallUint(32), longest: smallUint(32) }),
  },
  InvalidAppName: { selector: '0x3f606f85', values: struct({ app: fixedBytes(32) }) },
  InvalidShortString: { selector: '0xb3512b0c', values: struct({}) },
  InvalidTcbStatuses: { selector: '0x6bb26bd5', values: struct({ statuses: smallUint(16) }) },
  MeasurementNotAllowed: { selector: '0x9bdbf576', values: struct({ measurement: fixedBytes(32) }) },
  NoManifest: { selector: '0xede4454b', values: struct({ app: fixedBytes(32) }) },
  NoPreviousManifest: { selector: '0x1232bf6f', values: struct({ app: fixedBytes(32) }) },
  NotAllowed: { selector: '0x22352358', values: struct({ value: fixedBytes(32) }) },
  NotBootstrapped: { selector: '0x6e27ae10', values: struct({}) },
  OwnableInvalidOwner: { selector: '0x1e4fbdf7', values: struct({ owner: address }) },
  OwnableUnauthorizedAccount: { selector: '0x118cdaa7', values: struct({ account: address }) },
  PlatformNotAllowed: { selector: '0xf52ea977', values: struct({ platform: fixedBytes(32) }) },
  PlatformsAlreadyOpen: { selector: '0x1a5d490d', values: struct({ from: bigUint(64) }) },
  PlatformsNotOpen: { selector: '0xe5fa7dde', values: struct({}) },
  RenounceDisabled: { selector: '0x89051165', values: struct({}) },
  RequestExists: { selector: '0xa4a99c61', values: struct({ requestHash: fixedBytes(32) }) },
  RequestExpired: { selector: '0x0063c7a5', values: struct({ requestHash: fixedBytes(32) }) },
  RequestNotOpen: { selector: '0xc99a51a5', values: struct({ requestHash: fixedBytes(32) }) },
  StringTooLong: { selector: '0x305a27a9', values: struct({ str: text }) },
  UnknownBlock: { selector: '0xc5cfeb84', values: struct({ blockNumber: bigUint(64) }) },
  WrongSigner: { selector: '0x366d29f7', values: struct({ expected: address, signer: address }) },
  ZeroRequestWindow: { selector: '0xf7d30e6e', values: struct({}) },
  ZeroValue: { selector: '0x7c946ed7', values: struct({}) },
};
const errorNames = new Map(
  Object.entries(networkErrors).map(([name, { selector }]) => [selector, name as keyof typeof networkErrors]),
);

/**
 * Reads what a call that the contract refused reverted with.
 *
 * @param data the revert data, `0x` hex
 * @returns undefined for what is not one of the contract's errors
 * @throws DstackError `CONTRACT_DATA_INVALID` for one that is, with data that is not
 */
export function parseNetworkError(data: string): NetworkError | undefined {
  const name = errorNames.get(data.slice(0, 10).toLowerCase());
  if (name === undefined) return undefined;
  return { name, ...decodeStrictly(networkErrors[name].values, `0x${data.slice(10)}`, name) } as NetworkError;
}

const networkErrorHelp: Readonly<Partial<Record<NetworkError['name'], string>>> = {
  AlreadyAllowed: 'It is allowed, or will be once its delay is over; asking again changes neither.',
  BootstrapClosed:
    "A node was onboarded, so the secret lives in more than one place and can't be replaced by bootstrap.",
  ConfigNotAllowed: 'The configuration is not allowed now.',
  DelayTooLong:
    'A delay of more than a year is taken for a mistake: it could not be undone before it has passed.',
  FmspcAlreadyDenied: 'The FMSPC is denied already.',
  FmspcNotDenied: 'The FMSPC is not denied, or will not be from `until` on; asking again changes neither.',
  GracePeriodTooLong:
    'A grace period of more than ten years is taken for a mistake: accept the status OutOfDate instead.',
  InvalidAppName: 'An app\'s name is 1 to 31 characters of a-z, 0-9 and "-", padded with zeros.',
  InvalidTcbStatuses:
    'Accepted statuses are bits: UpToDate is always one of them, Revoked and unknown ones never.',
  MeasurementNotAllowed: 'The measurement is not allowed now.',
  NoManifest: 'The app has no manifest.',
  NoPreviousManifest:
    'There is no manifest to go back to: one rollback after each rollout, then a rollout with its delay.',
  NotAllowed: 'There is nothing to revoke.',
  NotBootstrapped: 'The network has no key yet: bootstrap first.',
  PlatformNotAllowed: 'The platform is not allowed now.',
  PlatformsAlreadyOpen:
    'Platforms are open, or will be once the delay is over; asking again changes neither.',
  PlatformsNotOpen: 'Platforms are not open.',
  RenounceDisabled: "The owner can't be renounced: a network that nobody can tighten can't be defended.",
  RequestExists: 'The request is open or answered already.',
  RequestExpired:
    "The request's window is over, or the network was bootstrapped again: make a new quote and register it.",
  RequestNotOpen: 'The request was never registered, or it is answered already.',
  UnknownBlock:
    'That block is not one of the last 256 (or not the one named): make a new quote over a recent block.',
  WrongSigner:
    'The signature is by `signer`; it had to be by `expected`, over exactly these values on this contract.',
  ZeroRequestWindow: 'A request window of zero blocks would let nobody join.',
  ZeroValue: 'Zero is what storage holds for "none", so it can\'t be a value.',
};

/** One line for logs and people: the error, its values, and what to do about it. */
export function describeNetworkError(error: NetworkError): string {
  const { name, ...values } = error;
  const list = Object.entries(values).map(([key, value]) => `${key} ${value}`);
  const help = networkErrorHelp[name];
  return `${name}(${list.join(', ')})${help ? `: ${help}` : ''}`;
}
