// GENERATED from contracts/Network.sol by `npm run bindings`: do not edit.

/**
 * The network's contract as TypeScript: `encodeX(args)` makes the calldata of a call or transaction, `decodeX(data)` reads
 * what a view returned, `parseNetworkEvent` reads a log and `parseNetworkError` what a refused call reverted with.
 *
 * Addresses and bytes are `0x` strings, addresses checksummed; uints of up to 48 bits are numbers, larger ones
 * bigints. What a decoder is given comes from a node that nobody trusts: anything else than the expected bytes is a
 * `CONTRACT_DATA_INVALID`. Whether a well-formed answer is true is for the reader of the chain to judge.
 */
import { Interface } from 'ethers';
import { DstackError } from './errors.ts';

/** The ABI in ethers' readable form. */
export const networkAbi = [
  'error AlreadyAllowed(bytes32 value, uint64 from)',
  'error BootstrapClosed()',
  'error ConfigNotAllowed(bytes32 config)',
  'error DelayTooLong(uint32 delay, uint32 longest)',
  'error ECDSAInvalidSignature()',
  'error ECDSAInvalidSignatureLength(uint256 length)',
  'error ECDSAInvalidSignatureS(bytes32 s)',
  'error FmspcAlreadyDenied(bytes6 fmspc)',
  'error FmspcNotDenied(bytes6 fmspc, uint64 until)',
  'error GracePeriodTooLong(uint32 gracePeriod, uint32 longest)',
  'error InvalidAppName(bytes32 app)',
  'error InvalidShortString()',
  'error InvalidTcbStatuses(uint16 statuses)',
  'error MeasurementNotAllowed(bytes32 measurement)',
  'error NoManifest(bytes32 app)',
  'error NoPreviousManifest(bytes32 app)',
  'error NotAllowed(bytes32 value)',
  'error NotBootstrapped()',
  'error OwnableInvalidOwner(address owner)',
  'error OwnableUnauthorizedAccount(address account)',
  'error PlatformNotAllowed(bytes32 platform)',
  'error PlatformsAlreadyOpen(uint64 from)',
  'error PlatformsNotOpen()',
  'error RenounceDisabled()',
  'error RequestExists(bytes32 requestHash)',
  'error RequestExpired(bytes32 requestHash)',
  'error RequestNotOpen(bytes32 requestHash)',
  'error StringTooLong(string str)',
  'error UnknownBlock(uint64 blockNumber)',
  'error WrongSigner(address expected, address signer)',
  'error ZeroRequestWindow()',
  'error ZeroValue()',
  'event AcceptedTcbStatusesSet(uint16 statuses, uint64 from)',
  'event Bootstrapped(uint64 epoch, address networkKey, bytes32 measurement, bytes32 config, bytes32 platform, bytes32 quoteHash, uint64 blockNumber, bytes32 blockHash)',
  'event ConfigAllowed(bytes32 indexed config, uint64 from)',
  'event ConfigRevoked(bytes32 indexed config)',
  'event DelaySet(uint32 delay, uint64 from)',
  'event EIP712DomainChanged()',
  'event FmspcAllowed(bytes6 indexed fmspc, uint64 from)',
  'event FmspcDenied(bytes6 indexed fmspc)',
  'event MeasurementAllowed(bytes32 indexed measurement, uint64 from)',
  'event MeasurementRevoked(bytes32 indexed measurement)',
  'event MinimumTcbEvaluationNumberSet(uint32 tcbEvaluationDataNumber, uint64 from)',
  'event Onboarded(bytes32 indexed requestHash, bytes32 measurement, bytes32 platform)',
  'event OwnershipTransferStarted(address indexed previousOwner, address indexed newOwner)',
  'event OwnershipTransferred(address indexed previousOwner, address indexed newOwner)',
  'event PlatformAllowed(bytes32 indexed platform, uint64 from)',
  'event PlatformRevoked(bytes32 indexed platform)',
  'event PlatformsClosed()',
  'event PlatformsOpened(uint64 from)',
  'event Registered(bytes32 indexed requestHash, address node)',
  'event RolledBack(bytes32 indexed app, bytes32 manifestHash)',
  'event RolledOut(bytes32 indexed app, bytes32 manifestHash, uint64 from)',
  'event TcbOutOfDateGraceSet(uint32 gracePeriod, uint64 from)',
  'event Withdrawn(bytes32 indexed app)',
  'function acceptOwnership()',
  'function allowConfig(bytes32 config)',
  'function allowMeasurement(bytes32 measurement)',
  'function allowPlatform(bytes32 platform)',
  'function appOf(bytes32 app) view returns ((bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from) found)',
  'function apps() view returns ((bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from)[] list)',
  'function bootstrap(address networkKey, bytes32 measurement, bytes32 config, bytes32 platform, bytes32 quoteHash, uint64 blockNumber, bytes32 blockHash, bytes32 r, bytes32 vs)',
  'function closePlatforms()',
  'function configAllowedFrom(bytes32 config) view returns (uint64)',
  'function deniedFmspcs() view returns ((bytes6 fmspc, uint64 deniedUntil)[] list)',
  'function eip712Domain() view returns (bytes1 fields, string name, string version, uint256 chainId, address verifyingContract, bytes32 salt, uint256[] extensions)',
  'function fmspcDenied(bytes6 fmspc) view returns (bool)',
  'function isAllowed(bytes32 measurement, bytes32 config, bytes32 platform) view returns (bool measurementAllowed, bool configAllowed, bool platformAllowed)',
  'function manifestOf(bytes32 app) view returns (bytes32)',
  'function measurementAllowedFrom(bytes32 measurement) view returns (uint64)',
  'function network() view returns ((address networkKey, uint32 epoch, bool onboarded, uint32 delay, uint32 requestWindow, bool platformsOpen))',
  'function nextDelay() view returns (uint32 delay, uint64 from)',
  'function nextTcbPolicy() view returns (uint32 minimumTcbEvaluationDataNumber, uint64 minimumFrom, uint16 statuses, uint64 statusesFrom, uint32 gracePeriod, uint64 gracePeriodFrom)',
  'function onboard(bytes32 requestHash, bytes32 measurement, bytes32 config, bytes32 platform, bytes32 answerHash, bytes32 r, bytes32 vs)',
  'function openPlatforms()',
  'function owner() view returns (address)',
  'function pendingOwner() view returns (address)',
  'function platformAllowedFrom(bytes32 platform) view returns (uint64)',
  'function platformsOpenFrom() view returns (uint64)',
  'function register(address node, bytes32 kemKeyHash, bytes32 quoteHash, uint64 blockNumber, bytes32 config, bytes32 r, bytes32 vs) returns (bytes32 requestHash)',
  'function renounceOwnership() view',
  'function request(bytes32 requestHash) view returns ((uint8 state, address node, uint64 blockNumber, uint64 expiresAfter, uint32 epoch, bytes32 answerHash) found)',
  'function revokeConfig(bytes32 config)',
  'function revokeMeasurement(bytes32 measurement)',
  'function revokePlatform(bytes32 platform)',
  'function rollback(bytes32 app)',
  'function rollout(bytes32 app, bytes32 manifestHash)',
  'function setAcceptedTcbStatuses(uint16 statuses)',
  'function setDelay(uint32 delay)',
  'function setDeniedFmspc(bytes6 fmspc, bool denied)',
  'function setMinimumTcbEvaluationNumber(uint32 tcbEvaluationDataNumber)',
  'function setTcbOutOfDateGrace(uint32 gracePeriod)',
  'function tcbPolicy() view returns (uint32 minimumTcbEvaluationDataNumber, uint16 statuses, uint32 gracePeriod)',
  'function transferOwnership(address newOwner)',
  'function verifyAttestation(bytes32 app, string tag, bytes data, uint8 v, bytes32 r, bytes32 s) view returns (bool)',
  'function withdraw(bytes32 app)',
] as const;

/** ethers' view of the contract, for what is not covered below. */
export const networkInterface: Interface = new Interface(networkAbi);

const requestState = ['none', 'open', 'answered', 'expired'] as const;
/** One of the contract's enum; INetwork.sol says what each means. */
export type RequestState = (typeof requestState)[number];
function readRequestState(value: unknown): RequestState {
  const member = requestState[small(value)];
  if (member === undefined) throw invalid('RequestState');
  return member;
}

/** See INetwork.sol for the fields' meaning. */
export interface AppView {
  readonly app: string;
  readonly manifestHash: string;
  readonly latest: string;
  readonly from: bigint;
}
function readAppView(value: unknown): AppView {
  const fields = list(value);
  return {
    app: text(fields[0]),
    manifestHash: text(fields[1]),
    latest: text(fields[2]),
    from: big(fields[3]),
  };
}

/** See INetwork.sol for the fields' meaning. */
export interface FmspcView {
  readonly fmspc: string;
  readonly deniedUntil: bigint;
}
function readFmspcView(value: unknown): FmspcView {
  const fields = list(value);
  return { fmspc: text(fields[0]), deniedUntil: big(fields[1]) };
}

/** See INetwork.sol for the fields' meaning. */
export interface NetworkView {
  readonly networkKey: string;
  readonly epoch: number;
  readonly onboarded: boolean;
  readonly delay: number;
  readonly requestWindow: number;
  readonly platformsOpen: boolean;
}
function readNetworkView(value: unknown): NetworkView {
  const fields = list(value);
  return {
    networkKey: text(fields[0]),
    epoch: small(fields[1]),
    onboarded: truth(fields[2]),
    delay: small(fields[3]),
    requestWindow: small(fields[4]),
    platformsOpen: truth(fields[5]),
  };
}

/** See INetwork.sol for the fields' meaning. */
export interface RequestView {
  readonly state: RequestState;
  readonly node: string;
  readonly blockNumber: bigint;
  readonly expiresAfter: bigint;
  readonly epoch: number;
  readonly answerHash: string;
}
function readRequestView(value: unknown): RequestView {
  const fields = list(value);
  return {
    state: readRequestState(fields[0]),
    node: text(fields[1]),
    blockNumber: big(fields[2]),
    expiresAfter: big(fields[3]),
    epoch: small(fields[4]),
    answerHash: text(fields[5]),
  };
}

/** `acceptOwnership` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeAcceptOwnership(): string {
  return networkInterface.encodeFunctionData('acceptOwnership');
}

/** The arguments of `allowConfig`. */
export interface AllowConfigArgs {
  readonly config: string;
}

/** Lets nodes with this configuration join, after the delay. Only the owner. */
export function encodeAllowConfig(args: AllowConfigArgs): string {
  return networkInterface.encodeFunctionData('allowConfig', [args.config]);
}

/** The arguments of `allowMeasurement`. */
export interface AllowMeasurementArgs {
  readonly measurement: string;
}

/** Lets nodes of this measurement join, after the delay. Only the owner. */
export function encodeAllowMeasurement(args: AllowMeasurementArgs): string {
  return networkInterface.encodeFunctionData('allowMeasurement', [args.measurement]);
}

/** The arguments of `allowPlatform`. */
export interface AllowPlatformArgs {
  readonly platform: string;
}

/** Lists this platform, after the delay (at once when platforms are open and it is not revoked, for then it may join anyway). Only the owner. */
export function encodeAllowPlatform(args: AllowPlatformArgs): string {
  return networkInterface.encodeFunctionData('allowPlatform', [args.platform]);
}

/** The arguments of `appOf`. */
export interface AppOfArgs {
  readonly app: string;
}

/** One app; all zero but the name if it was never rolled out. */
export function encodeAppOf(args: AppOfArgs): string {
  return networkInterface.encodeFunctionData('appOf', [args.app]);
}

/** What `appOf` returned. */
export function decodeAppOf(data: string): AppView {
  const values = decoded('appOf', data);
  return readAppView(values[0]);
}

/** Every app that was ever rolled out, in that order. */
export function encodeApps(): string {
  return networkInterface.encodeFunctionData('apps');
}

/** What `apps` returned. */
export function decodeApps(data: string): readonly AppView[] {
  const values = decoded('apps', data);
  return list(values[0]).map((item) => readAppView(item));
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

/** Gives the network its key. Only the owner; only until the first node is onboarded; raises the epoch. */
export function encodeBootstrap(args: BootstrapArgs): string {
  return networkInterface.encodeFunctionData('bootstrap', [
    args.networkKey,
    args.measurement,
    args.config,
    args.platform,
    args.quoteHash,
    args.blockNumber,
    args.blockHash,
    args.r,
    args.vs,
  ]);
}

/** Lets only listed platforms join, at once. Only the owner. */
export function encodeClosePlatforms(): string {
  return networkInterface.encodeFunctionData('closePlatforms');
}

/** The arguments of `configAllowedFrom`. */
export interface ConfigAllowedFromArgs {
  readonly config: string;
}

/** Since or from when (Unix seconds) the configuration is allowed; 0 if it isn't. */
export function encodeConfigAllowedFrom(args: ConfigAllowedFromArgs): string {
  return networkInterface.encodeFunctionData('configAllowedFrom', [args.config]);
}

/** What `configAllowedFrom` returned. */
export function decodeConfigAllowedFrom(data: string): bigint {
  const values = decoded('configAllowedFrom', data);
  return big(values[0]);
}

/** Every FMSPC that was ever denied, in that order, those allowed again too. */
export function encodeDeniedFmspcs(): string {
  return networkInterface.encodeFunctionData('deniedFmspcs');
}

/** What `deniedFmspcs` returned. */
export function decodeDeniedFmspcs(data: string): readonly FmspcView[] {
  const values = decoded('deniedFmspcs', data);
  return list(values[0]).map((item) => readFmspcView(item));
}

/** `eip712Domain` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeEip712Domain(): string {
  return networkInterface.encodeFunctionData('eip712Domain');
}

/** What `eip712Domain` returns. */
export interface Eip712DomainResult {
  readonly fields: string;
  readonly name: string;
  readonly version: string;
  readonly chainId: bigint;
  readonly verifyingContract: string;
  readonly salt: string;
  readonly extensions: readonly bigint[];
}
/** What `eip712Domain` returned. */
export function decodeEip712Domain(data: string): Eip712DomainResult {
  const values = decoded('eip712Domain', data);
  return {
    fields: text(values[0]),
    name: text(values[1]),
    version: text(values[2]),
    chainId: big(values[3]),
    verifyingContract: text(values[4]),
    salt: text(values[5]),
    extensions: list(values[6]).map((item) => big(item)),
  };
}

/** The arguments of `fmspcDenied`. */
export interface FmspcDeniedArgs {
  readonly fmspc: string;
}

/** Whether platforms of this FMSPC are kept out now. */
export function encodeFmspcDenied(args: FmspcDeniedArgs): string {
  return networkInterface.encodeFunctionData('fmspcDenied', [args.fmspc]);
}

/** What `fmspcDenied` returned. */
export function decodeFmspcDenied(data: string): boolean {
  const values = decoded('fmspcDenied', data);
  return truth(values[0]);
}

/** The arguments of `isAllowed`. */
export interface IsAllowedArgs {
  readonly measurement: string;
  readonly config: string;
  readonly platform: string;
}

/** Whether each of the three would let a node join now. */
export function encodeIsAllowed(args: IsAllowedArgs): string {
  return networkInterface.encodeFunctionData('isAllowed', [args.measurement, args.config, args.platform]);
}

/** What `isAllowed` returns. */
export interface IsAllowedResult {
  readonly measurementAllowed: boolean;
  readonly configAllowed: boolean;
  readonly platformAllowed: boolean;
}
/** What `isAllowed` returned. */
export function decodeIsAllowed(data: string): IsAllowedResult {
  const values = decoded('isAllowed', data);
  return {
    measurementAllowed: truth(values[0]),
    configAllowed: truth(values[1]),
    platformAllowed: truth(values[2]),
  };
}

/** The arguments of `manifestOf`. */
export interface ManifestOfArgs {
  readonly app: string;
}

/** The manifest that is in force for an app now; zero if none. */
export function encodeManifestOf(args: ManifestOfArgs): string {
  return networkInterface.encodeFunctionData('manifestOf', [args.app]);
}

/** What `manifestOf` returned. */
export function decodeManifestOf(data: string): string {
  const values = decoded('manifestOf', data);
  return text(values[0]);
}

/** The arguments of `measurementAllowedFrom`. */
export interface MeasurementAllowedFromArgs {
  readonly measurement: string;
}

/** Since or from when (Unix seconds) the measurement is allowed; 0 if it isn't. */
export function encodeMeasurementAllowedFrom(args: MeasurementAllowedFromArgs): string {
  return networkInterface.encodeFunctionData('measurementAllowedFrom', [args.measurement]);
}

/** What `measurementAllowedFrom` returned. */
export function decodeMeasurementAllowedFrom(data: string): bigint {
  const values = decoded('measurementAllowedFrom', data);
  return big(values[0]);
}

/** The network in one call. */
export function encodeNetwork(): string {
  return networkInterface.encodeFunctionData('network');
}

/** What `network` returned. */
export function decodeNetwork(data: string): NetworkView {
  const values = decoded('network', data);
  return readNetworkView(values[0]);
}

/** The delay that was set last and since or from when (Unix seconds) it holds; `from` is 0 for one that was not set by shortening. */
export function encodeNextDelay(): string {
  return networkInterface.encodeFunctionData('nextDelay');
}

/** What `nextDelay` returns. */
export interface NextDelayResult {
  readonly delay: number;
  readonly from: bigint;
}
/** What `nextDelay` returned. */
export function decodeNextDelay(data: string): NextDelayResult {
  const values = decoded('nextDelay', data);
  return { delay: small(values[0]), from: big(values[1]) };
}

/** Each part of the TCB policy as it was set last, and since or from when (Unix seconds) it holds wholly; 0 for one that was never set. */
export function encodeNextTcbPolicy(): string {
  return networkInterface.encodeFunctionData('nextTcbPolicy');
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
/** What `nextTcbPolicy` returned. */
export function decodeNextTcbPolicy(data: string): NextTcbPolicyResult {
  const values = decoded('nextTcbPolicy', data);
  return {
    minimumTcbEvaluationDataNumber: small(values[0]),
    minimumFrom: big(values[1]),
    statuses: small(values[2]),
    statusesFrom: big(values[3]),
    gracePeriod: small(values[4]),
    gracePeriodFrom: big(values[5]),
  };
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

/** Records the network's answer to an open request, once. Posted by the requester's relay. The first one closes bootstrap for ever. */
export function encodeOnboard(args: OnboardArgs): string {
  return networkInterface.encodeFunctionData('onboard', [
    args.requestHash,
    args.measurement,
    args.config,
    args.platform,
    args.answerHash,
    args.r,
    args.vs,
  ]);
}

/** Lets any platform join that is not revoked, after the delay. Only the owner. */
export function encodeOpenPlatforms(): string {
  return networkInterface.encodeFunctionData('openPlatforms');
}

/** `owner` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeOwner(): string {
  return networkInterface.encodeFunctionData('owner');
}

/** What `owner` returned. */
export function decodeOwner(data: string): string {
  const values = decoded('owner', data);
  return text(values[0]);
}

/** `pendingOwner` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodePendingOwner(): string {
  return networkInterface.encodeFunctionData('pendingOwner');
}

/** What `pendingOwner` returned. */
export function decodePendingOwner(data: string): string {
  const values = decoded('pendingOwner', data);
  return text(values[0]);
}

/** The arguments of `platformAllowedFrom`. */
export interface PlatformAllowedFromArgs {
  readonly platform: string;
}

/** Since or from when (Unix seconds) the platform is listed; 0 if it isn't, 2^64-1 if it is revoked. */
export function encodePlatformAllowedFrom(args: PlatformAllowedFromArgs): string {
  return networkInterface.encodeFunctionData('platformAllowedFrom', [args.platform]);
}

/** What `platformAllowedFrom` returned. */
export function decodePlatformAllowedFrom(data: string): bigint {
  const values = decoded('platformAllowedFrom', data);
  return big(values[0]);
}

/** Since or from when (Unix seconds) platforms are open; 0 if they are not. */
export function encodePlatformsOpenFrom(): string {
  return networkInterface.encodeFunctionData('platformsOpenFrom');
}

/** What `platformsOpenFrom` returned. */
export function decodePlatformsOpenFrom(data: string): bigint {
  const values = decoded('platformsOpenFrom', data);
  return big(values[0]);
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

/** Asks to join. Anyone may post it; the request hash, which is `Request`'s EIP-712 struct hash, is computed here from the block's hash as this chain has it and the present epoch. So nobody can take a request's slot with another node's key or revive a stale request; who copies the transaction only pays for it. */
export function encodeRegister(args: RegisterArgs): string {
  return networkInterface.encodeFunctionData('register', [
    args.node,
    args.kemKeyHash,
    args.quoteHash,
    args.blockNumber,
    args.config,
    args.r,
    args.vs,
  ]);
}

/** The arguments of `request`. */
export interface RequestArgs {
  readonly requestHash: string;
}

/** A request by its hash. "Now" is the block that the call runs in. */
export function encodeRequest(args: RequestArgs): string {
  return networkInterface.encodeFunctionData('request', [args.requestHash]);
}

/** What `request` returned. */
export function decodeRequest(data: string): RequestView {
  const values = decoded('request', data);
  return readRequestView(values[0]);
}

/** The arguments of `revokeConfig`. */
export interface RevokeConfigArgs {
  readonly config: string;
}

/** Lets no more nodes with this configuration join, at once. Only the owner. */
export function encodeRevokeConfig(args: RevokeConfigArgs): string {
  return networkInterface.encodeFunctionData('revokeConfig', [args.config]);
}

/** The arguments of `revokeMeasurement`. */
export interface RevokeMeasurementArgs {
  readonly measurement: string;
}

/** Lets no more nodes of this measurement join, at once. Only the owner. */
export function encodeRevokeMeasurement(args: RevokeMeasurementArgs): string {
  return networkInterface.encodeFunctionData('revokeMeasurement', [args.measurement]);
}

/** The arguments of `revokePlatform`. */
export interface RevokePlatformArgs {
  readonly platform: string;
}

/** Keeps this platform out, at once, listed before or not, be platforms open or not. Only the owner. */
export function encodeRevokePlatform(args: RevokePlatformArgs): string {
  return networkInterface.encodeFunctionData('revokePlatform', [args.platform]);
}

/** The arguments of `rollback`. */
export interface RollbackArgs {
  readonly app: string;
}

/** Cancels a pending rollout, or else goes back to the previous manifest, at once. What was left this way can come back only by a rollout with its delay, so a second rollback in a row is refused. Only the owner. */
export function encodeRollback(args: RollbackArgs): string {
  return networkInterface.encodeFunctionData('rollback', [args.app]);
}

/** The arguments of `rollout`. */
export interface RolloutArgs {
  readonly app: string;
  readonly manifestHash: string;
}

/** Makes an app run this manifest, after the delay; until then the present one stays in force. Replaces a rollout that is still pending, and its time begins anew. Only the owner. */
export function encodeRollout(args: RolloutArgs): string {
  return networkInterface.encodeFunctionData('rollout', [args.app, args.manifestHash]);
}

/** The arguments of `setAcceptedTcbStatuses`. */
export interface SetAcceptedTcbStatusesArgs {
  readonly statuses: number;
}

/** Sets which TCB statuses are accepted: fewer at once, more after the delay. Only the owner. */
export function encodeSetAcceptedTcbStatuses(args: SetAcceptedTcbStatusesArgs): string {
  return networkInterface.encodeFunctionData('setAcceptedTcbStatuses', [args.statuses]);
}

/** The arguments of `setDelay`. */
export interface SetDelayArgs {
  readonly delay: number;
}

/** Sets the delay: a longer one at once, a shorter one after the present one. It replaces a shorter one that is still to come. What is pending keeps its time. Only the owner. */
export function encodeSetDelay(args: SetDelayArgs): string {
  return networkInterface.encodeFunctionData('setDelay', [args.delay]);
}

/** The arguments of `setDeniedFmspc`. */
export interface SetDeniedFmspcArgs {
  readonly fmspc: string;
  readonly denied: boolean;
}

/** Keeps all platforms of this FMSPC out, at once, whatever else holds; or does so no longer, after the delay. Denying it again cancels that. Only the owner. */
export function encodeSetDeniedFmspc(args: SetDeniedFmspcArgs): string {
  return networkInterface.encodeFunctionData('setDeniedFmspc', [args.fmspc, args.denied]);
}

/** The arguments of `setMinimumTcbEvaluationNumber`. */
export interface SetMinimumTcbEvaluationNumberArgs {
  readonly tcbEvaluationDataNumber: number;
}

/** Sets the lowest `tcbEvaluationDataNumber` that TCB info and QE identity may have: a higher one at once, a lower one after the delay. Only the owner. */
export function encodeSetMinimumTcbEvaluationNumber(args: SetMinimumTcbEvaluationNumberArgs): string {
  return networkInterface.encodeFunctionData('setMinimumTcbEvaluationNumber', [args.tcbEvaluationDataNumber]);
}

/** The arguments of `setTcbOutOfDateGrace`. */
export interface SetTcbOutOfDateGraceArgs {
  readonly gracePeriod: number;
}

/** Sets how long platforms that are out of date (OutOfDate, OutOfDateConfigurationNeeded) are accepted all the same: shorter at once, longer after the delay. Only the owner. */
export function encodeSetTcbOutOfDateGrace(args: SetTcbOutOfDateGraceArgs): string {
  return networkInterface.encodeFunctionData('setTcbOutOfDateGrace', [args.gracePeriod]);
}

/** The TCB policy in force now. Who judges a quote reads this and `fmspcDenied` at one block. */
export function encodeTcbPolicy(): string {
  return networkInterface.encodeFunctionData('tcbPolicy');
}

/** What `tcbPolicy` returns. */
export interface TcbPolicyResult {
  readonly minimumTcbEvaluationDataNumber: number;
  readonly statuses: number;
  readonly gracePeriod: number;
}
/** What `tcbPolicy` returned. */
export function decodeTcbPolicy(data: string): TcbPolicyResult {
  const values = decoded('tcbPolicy', data);
  return {
    minimumTcbEvaluationDataNumber: small(values[0]),
    statuses: small(values[1]),
    gracePeriod: small(values[2]),
  };
}

/** The arguments of `transferOwnership`. */
export interface TransferOwnershipArgs {
  readonly newOwner: string;
}

/** `transferOwnership` of OpenZeppelin's Ownable2Step or EIP712. */
export function encodeTransferOwnership(args: TransferOwnershipArgs): string {
  return networkInterface.encodeFunctionData('transferOwnership', [args.newOwner]);
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

/** Whether an app of this network attested this: the present network key signed `Attestation`. */
export function encodeVerifyAttestation(args: VerifyAttestationArgs): string {
  return networkInterface.encodeFunctionData('verifyAttestation', [
    args.app,
    args.tag,
    args.data,
    args.v,
    args.r,
    args.s,
  ]);
}

/** What `verifyAttestation` returned. */
export function decodeVerifyAttestation(data: string): boolean {
  const values = decoded('verifyAttestation', data);
  return truth(values[0]);
}

/** The arguments of `withdraw`. */
export interface WithdrawArgs {
  readonly app: string;
}

/** Leaves the app without a manifest, pending or in force, at once. Only the owner. */
export function encodeWithdraw(args: WithdrawArgs): string {
  return networkInterface.encodeFunctionData('withdraw', [args.app]);
}

/** An event of the contract. */
export type NetworkEvent =
  /** Platforms of these statuses (bits) may join from `from` (Unix seconds) on. Statuses in force that are not among them are no longer accepted, at once. */
  | { readonly name: 'AcceptedTcbStatusesSet'; readonly statuses: number; readonly from: bigint }
  /** The network has a (new) key. Everything that the network key signed for goes in, so that an audit can find the bootstrap quote without tracing the owner's multisig. */
  | {
      readonly name: 'Bootstrapped';
      readonly epoch: bigint;
      readonly networkKey: string;
      readonly measurement: string;
      readonly config: string;
      readonly platform: string;
      readonly quoteHash: string;
      readonly blockNumber: bigint;
      readonly blockHash: string;
    }
  /** Nodes with this `network.json` may join from `from` (Unix seconds) on. */
  | { readonly name: 'ConfigAllowed'; readonly config: string; readonly from: bigint }
  /** Nodes with this `network.json` may no longer join. */
  | { readonly name: 'ConfigRevoked'; readonly config: string }
  /** Loosening takes `delay` seconds from `from` (Unix seconds) on. */
  | { readonly name: 'DelaySet'; readonly delay: number; readonly from: bigint }
  | { readonly name: 'EIP712DomainChanged' }
  /** Platforms of this FMSPC may join again from `from` (Unix seconds) on. */
  | { readonly name: 'FmspcAllowed'; readonly fmspc: string; readonly from: bigint }
  /** Platforms of this FMSPC may no longer join. */
  | { readonly name: 'FmspcDenied'; readonly fmspc: string }
  /** Nodes of this measurement may join from `from` (Unix seconds) on. */
  | { readonly name: 'MeasurementAllowed'; readonly measurement: string; readonly from: bigint }
  /** Nodes of this measurement may no longer join. Those that have joined keep the secret. */
  | { readonly name: 'MeasurementRevoked'; readonly measurement: string }
  /** Collateral must be of this TCB evaluation or a later one: from `from` (Unix seconds) on if this is lower than what was in force, at once if not. */
  | {
      readonly name: 'MinimumTcbEvaluationNumberSet';
      readonly tcbEvaluationDataNumber: number;
      readonly from: bigint;
    }
  /** A node's request was answered. Who asked is in `Registered`, the answer's hash in the state, the rest in the transaction: an event's word costs as much as half one of calldata, and every node that joins pays for these. */
  | {
      readonly name: 'Onboarded';
      readonly requestHash: string;
      readonly measurement: string;
      readonly platform: string;
    }
  | { readonly name: 'OwnershipTransferStarted'; readonly previousOwner: string; readonly newOwner: string }
  | { readonly name: 'OwnershipTransferred'; readonly previousOwner: string; readonly newOwner: string }
  /** Nodes on this platform may join from `from` (Unix seconds) on. */
  | { readonly name: 'PlatformAllowed'; readonly platform: string; readonly from: bigint }
  /** Nodes on this platform may no longer join, be platforms open or not. */
  | { readonly name: 'PlatformRevoked'; readonly platform: string }
  /** Only listed platforms may join. */
  | { readonly name: 'PlatformsClosed' }
  /** Any platform that was not revoked may join from `from` (Unix seconds) on. */
  | { readonly name: 'PlatformsOpened'; readonly from: bigint }
  /** A node asks to join; the request itself travels by gossip. */
  | { readonly name: 'Registered'; readonly requestHash: string; readonly node: string }
  /** The app is back at this manifest, at once; zero when it has none. */
  | { readonly name: 'RolledBack'; readonly app: string; readonly manifestHash: string }
  /** The app runs this manifest from `from` (Unix seconds) on. */
  | { readonly name: 'RolledOut'; readonly app: string; readonly manifestHash: string; readonly from: bigint }
  /** Platforms that are out of date may join for so many seconds: from `from` (Unix seconds) on if this is longer than what was in force, at once if not. */
  | { readonly name: 'TcbOutOfDateGraceSet'; readonly gracePeriod: number; readonly from: bigint }
  /** The app has no manifest any more. */
  | { readonly name: 'Withdrawn'; readonly app: string };

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
  const topic = log.topics[0];
  const fragment = topic === undefined ? null : networkInterface.getEvent(topic);
  if (!fragment) return undefined;
  const args = guarded(fragment.name, () => {
    const values = networkInterface.decodeEventLog(fragment, log.data, log.topics);
    const again = networkInterface.encodeEventLog(fragment, [...values]);
    return same([log.data, ...log.topics], [again.data, ...again.topics]) ? values : undefined;
  });
  switch (fragment.name) {
    case 'AcceptedTcbStatusesSet':
      return { name: 'AcceptedTcbStatusesSet', statuses: small(args[0]), from: big(args[1]) };
    case 'Bootstrapped':
      return {
        name: 'Bootstrapped',
        epoch: big(args[0]),
        networkKey: text(args[1]),
        measurement: text(args[2]),
        config: text(args[3]),
        platform: text(args[4]),
        quoteHash: text(args[5]),
        blockNumber: big(args[6]),
        blockHash: text(args[7]),
      };
    case 'ConfigAllowed':
      return { name: 'ConfigAllowed', config: text(args[0]), from: big(args[1]) };
    case 'ConfigRevoked':
      return { name: 'ConfigRevoked', config: text(args[0]) };
    case 'DelaySet':
      return { name: 'DelaySet', delay: small(args[0]), from: big(args[1]) };
    case 'EIP712DomainChanged':
      return { name: 'EIP712DomainChanged' };
    case 'FmspcAllowed':
      return { name: 'FmspcAllowed', fmspc: text(args[0]), from: big(args[1]) };
    case 'FmspcDenied':
      return { name: 'FmspcDenied', fmspc: text(args[0]) };
    case 'MeasurementAllowed':
      return { name: 'MeasurementAllowed', measurement: text(args[0]), from: big(args[1]) };
    case 'MeasurementRevoked':
      return { name: 'MeasurementRevoked', measurement: text(args[0]) };
    case 'MinimumTcbEvaluationNumberSet':
      return {
        name: 'MinimumTcbEvaluationNumberSet',
        tcbEvaluationDataNumber: small(args[0]),
        from: big(args[1]),
      };
    case 'Onboarded':
      return {
        name: 'Onboarded',
        requestHash: text(args[0]),
        measurement: text(args[1]),
        platform: text(args[2]),
      };
    case 'OwnershipTransferStarted':
      return { name: 'OwnershipTransferStarted', previousOwner: text(args[0]), newOwner: text(args[1]) };
    case 'OwnershipTransferred':
      return { name: 'OwnershipTransferred', previousOwner: text(args[0]), newOwner: text(args[1]) };
    case 'PlatformAllowed':
      return { name: 'PlatformAllowed', platform: text(args[0]), from: big(args[1]) };
    case 'PlatformRevoked':
      return { name: 'PlatformRevoked', platform: text(args[0]) };
    case 'PlatformsClosed':
      return { name: 'PlatformsClosed' };
    case 'PlatformsOpened':
      return { name: 'PlatformsOpened', from: big(args[0]) };
    case 'Registered':
      return { name: 'Registered', requestHash: text(args[0]), node: text(args[1]) };
    case 'RolledBack':
      return { name: 'RolledBack', app: text(args[0]), manifestHash: text(args[1]) };
    case 'RolledOut':
      return { name: 'RolledOut', app: text(args[0]), manifestHash: text(args[1]), from: big(args[2]) };
    case 'TcbOutOfDateGraceSet':
      return { name: 'TcbOutOfDateGraceSet', gracePeriod: small(args[0]), from: big(args[1]) };
    case 'Withdrawn':
      return { name: 'Withdrawn', app: text(args[0]) };
    default:
      return undefined;
  }
}

/** A refusal of the contract. */
export type NetworkError =
  /** It is allowed, or will be once its delay is over; asking again changes neither. */
  | { readonly name: 'AlreadyAllowed'; readonly value: string; readonly from: bigint }
  /** A node was onboarded, so the secret lives in more than one place and can't be replaced by bootstrap. */
  | { readonly name: 'BootstrapClosed' }
  /** The configuration is not allowed now. */
  | { readonly name: 'ConfigNotAllowed'; readonly config: string }
  /** A delay of more than a year is taken for a mistake: it could not be undone before it has passed. */
  | { readonly name: 'DelayTooLong'; readonly delay: number; readonly longest: number }
  | { readonly name: 'ECDSAInvalidSignature' }
  | { readonly name: 'ECDSAInvalidSignatureLength'; readonly length: bigint }
  | { readonly name: 'ECDSAInvalidSignatureS'; readonly s: string }
  /** The FMSPC is denied already. */
  | { readonly name: 'FmspcAlreadyDenied'; readonly fmspc: string }
  /** The FMSPC is not denied, or will not be from `until` on; asking again changes neither. */
  | { readonly name: 'FmspcNotDenied'; readonly fmspc: string; readonly until: bigint }
  /** A grace period of more than ten years is taken for a mistake: accept the status OutOfDate instead. */
  | { readonly name: 'GracePeriodTooLong'; readonly gracePeriod: number; readonly longest: number }
  /** An app's name is 1 to 31 characters of a-z, 0-9 and "-", padded with zeros. */
  | { readonly name: 'InvalidAppName'; readonly app: string }
  | { readonly name: 'InvalidShortString' }
  /** Accepted statuses are bits: UpToDate is always one of them, Revoked and unknown ones never. */
  | { readonly name: 'InvalidTcbStatuses'; readonly statuses: number }
  /** The measurement is not allowed now. */
  | { readonly name: 'MeasurementNotAllowed'; readonly measurement: string }
  /** The app has no manifest. */
  | { readonly name: 'NoManifest'; readonly app: string }
  /** There is no manifest to go back to: one rollback after each rollout, then a rollout with its delay. */
  | { readonly name: 'NoPreviousManifest'; readonly app: string }
  /** There is nothing to revoke. */
  | { readonly name: 'NotAllowed'; readonly value: string }
  /** The network has no key yet: bootstrap first. */
  | { readonly name: 'NotBootstrapped' }
  | { readonly name: 'OwnableInvalidOwner'; readonly owner: string }
  | { readonly name: 'OwnableUnauthorizedAccount'; readonly account: string }
  /** The platform is not allowed now. */
  | { readonly name: 'PlatformNotAllowed'; readonly platform: string }
  /** Platforms are open, or will be once the delay is over; asking again changes neither. */
  | { readonly name: 'PlatformsAlreadyOpen'; readonly from: bigint }
  /** Platforms are not open. */
  | { readonly name: 'PlatformsNotOpen' }
  /** The owner can't be renounced: a network that nobody can tighten can't be defended. */
  | { readonly name: 'RenounceDisabled' }
  /** The request is open or answered already. */
  | { readonly name: 'RequestExists'; readonly requestHash: string }
  /** The request's window is over, or the network was bootstrapped again: make a new quote and register it. */
  | { readonly name: 'RequestExpired'; readonly requestHash: string }
  /** The request was never registered, or it is answered already. */
  | { readonly name: 'RequestNotOpen'; readonly requestHash: string }
  | { readonly name: 'StringTooLong'; readonly str: string }
  /** That block is not one of the last 256 (or not the one named): make a new quote over a recent block. */
  | { readonly name: 'UnknownBlock'; readonly blockNumber: bigint }
  /** The signature is by `signer`; it had to be by `expected`, over exactly these values on this contract. */
  | { readonly name: 'WrongSigner'; readonly expected: string; readonly signer: string }
  /** A request window of zero blocks would let nobody join. */
  | { readonly name: 'ZeroRequestWindow' }
  /** Zero is what storage holds for "none", so it can't be a value. */
  | { readonly name: 'ZeroValue' };

/**
 * Reads what a call that the contract refused reverted with.
 *
 * @param data the revert data, `0x` hex
 * @returns undefined for what is not one of the contract's errors
 * @throws DstackError `CONTRACT_DATA_INVALID` for one that is, with data that is not
 */
export function parseNetworkError(data: string): NetworkError | undefined {
  const fragment = /^0x[0-9a-f]{8}/i.test(data) ? networkInterface.getError(data.slice(0, 10)) : null;
  // ethers knows Solidity's own two besides the contract's.
  if (!fragment || fragment.name === 'Error' || fragment.name === 'Panic') return undefined;
  const args = guarded(fragment.name, () => {
    const values = networkInterface.decodeErrorResult(fragment, data);
    return same([data], [networkInterface.encodeErrorResult(fragment, [...values])]) ? values : undefined;
  });
  switch (fragment.name) {
    case 'AlreadyAllowed':
      return { name: 'AlreadyAllowed', value: text(args[0]), from: big(args[1]) };
    case 'BootstrapClosed':
      return { name: 'BootstrapClosed' };
    case 'ConfigNotAllowed':
      return { name: 'ConfigNotAllowed', config: text(args[0]) };
    case 'DelayTooLong':
      return { name: 'DelayTooLong', delay: small(args[0]), longest: small(args[1]) };
    case 'ECDSAInvalidSignature':
      return { name: 'ECDSAInvalidSignature' };
    case 'ECDSAInvalidSignatureLength':
      return { name: 'ECDSAInvalidSignatureLength', length: big(args[0]) };
    case 'ECDSAInvalidSignatureS':
      return { name: 'ECDSAInvalidSignatureS', s: text(args[0]) };
    case 'FmspcAlreadyDenied':
      return { name: 'FmspcAlreadyDenied', fmspc: text(args[0]) };
    case 'FmspcNotDenied':
      return { name: 'FmspcNotDenied', fmspc: text(args[0]), until: big(args[1]) };
    case 'GracePeriodTooLong':
      return { name: 'GracePeriodTooLong', gracePeriod: small(args[0]), longest: small(args[1]) };
    case 'InvalidAppName':
      return { name: 'InvalidAppName', app: text(args[0]) };
    case 'InvalidShortString':
      return { name: 'InvalidShortString' };
    case 'InvalidTcbStatuses':
      return { name: 'InvalidTcbStatuses', statuses: small(args[0]) };
    case 'MeasurementNotAllowed':
      return { name: 'MeasurementNotAllowed', measurement: text(args[0]) };
    case 'NoManifest':
      return { name: 'NoManifest', app: text(args[0]) };
    case 'NoPreviousManifest':
      return { name: 'NoPreviousManifest', app: text(args[0]) };
    case 'NotAllowed':
      return { name: 'NotAllowed', value: text(args[0]) };
    case 'NotBootstrapped':
      return { name: 'NotBootstrapped' };
    case 'OwnableInvalidOwner':
      return { name: 'OwnableInvalidOwner', owner: text(args[0]) };
    case 'OwnableUnauthorizedAccount':
      return { name: 'OwnableUnauthorizedAccount', account: text(args[0]) };
    case 'PlatformNotAllowed':
      return { name: 'PlatformNotAllowed', platform: text(args[0]) };
    case 'PlatformsAlreadyOpen':
      return { name: 'PlatformsAlreadyOpen', from: big(args[0]) };
    case 'PlatformsNotOpen':
      return { name: 'PlatformsNotOpen' };
    case 'RenounceDisabled':
      return { name: 'RenounceDisabled' };
    case 'RequestExists':
      return { name: 'RequestExists', requestHash: text(args[0]) };
    case 'RequestExpired':
      return { name: 'RequestExpired', requestHash: text(args[0]) };
    case 'RequestNotOpen':
      return { name: 'RequestNotOpen', requestHash: text(args[0]) };
    case 'StringTooLong':
      return { name: 'StringTooLong', str: text(args[0]) };
    case 'UnknownBlock':
      return { name: 'UnknownBlock', blockNumber: big(args[0]) };
    case 'WrongSigner':
      return { name: 'WrongSigner', expected: text(args[0]), signer: text(args[1]) };
    case 'ZeroRequestWindow':
      return { name: 'ZeroRequestWindow' };
    case 'ZeroValue':
      return { name: 'ZeroValue' };
    default:
      return undefined;
  }
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

function invalid(what: string, cause?: unknown): DstackError {
  return new DstackError('CONTRACT_DATA_INVALID', `what should be the contract's ${what} has another shape`, {
    cause,
  });
}

/** ethers reports some malformed values only when they are read, so they are all read here. */
function guarded(what: string, decode: () => Iterable<unknown> | undefined): readonly unknown[] {
  let values: readonly unknown[] | undefined;
  try {
    values = toArray(decode());
  } catch (cause) {
    throw invalid(what, cause);
  }
  if (values === undefined) throw invalid(what);
  return values;
}

function toArray(values: Iterable<unknown> | undefined): readonly unknown[] | undefined {
  return values && [...values];
}

/**
 * ethers cuts off what does not fit: a bool of 2, an address of 32 bytes. Only what encodes to the same bytes again is what
 * the contract can have said.
 */
function same(given: readonly string[], again: readonly (string | null)[]): boolean {
  return given.length === again.length && given.every((part, index) => part.toLowerCase() === again[index]);
}

function decoded(name: string, data: string): readonly unknown[] {
  return guarded(`answer to ${name}`, () => {
    const values = networkInterface.decodeFunctionResult(name, data);
    return same([data], [networkInterface.encodeFunctionResult(name, [...values])]) ? values : undefined;
  });
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw invalid('string');
  return value;
}

function truth(value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalid('bool');
  return value;
}

function big(value: unknown): bigint {
  if (typeof value !== 'bigint') throw invalid('uint');
  return value;
}

function small(value: unknown): number {
  return Number(big(value));
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid('list');
  return guarded('list', () => value);
}
