/**
 * The whole contract as a plain TypeScript state machine: the oracle of the fuzz.
 *
 * It is written from INetwork.sol's words, not from Network.sol's storage: maps and optional fields instead of packed slots
 * and flags. Given who calls what in which block, it predicts the exact events or the exact refusal, and afterwards what
 * every view must show. It does no I/O; hashes of blocks are given to it.
 */
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { hasCode } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import type * as contract from '../../lib/protocol/network-contract.ts';
import { recover } from '../../lib/protocol/secp256k1.ts';
import {
  attestationDigest,
  bootstrapDigest,
  type Domain,
  onboardDigest,
  requestDigest,
  requestHash,
} from '../../lib/protocol/typed-data.ts';
import { type Named, type Outcome, Refusal, refuse } from './refusal.ts';
import { type TcbOperation, TcbPolicyModel } from './tcb-model.ts';

export const ZERO_ADDRESS: string = `0x${'0'.repeat(40)}`;
export const ZERO_WORD: string = `0x${'0'.repeat(64)}`;
const YEAR = 365 * 86_400;
const UINT64_MAX = 2n ** 64n - 1n;
/** Half of secp256k1's order (SEC 2, 2.4.1): an s above it is the malleable twin (EIP-2). */
const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;

/** One call, by the contract's own names. `malformed` stands for bytes that are not a call of the contract at all. */
export type Operation =
  | { readonly name: 'bootstrap'; readonly args: contract.BootstrapArgs }
  | { readonly name: 'register'; readonly args: contract.RegisterArgs }
  | { readonly name: 'onboard'; readonly args: contract.OnboardArgs }
  | {
      readonly name: 'allowMeasurement' | 'revokeMeasurement';
      readonly args: { readonly measurement: string };
    }
  | { readonly name: 'allowConfig' | 'revokeConfig'; readonly args: { readonly config: string } }
  | { readonly name: 'allowPlatform' | 'revokePlatform'; readonly args: { readonly platform: string } }
  | { readonly name: 'openPlatforms' | 'closePlatforms' | 'renounceOwnership'; readonly args: Nothing }
  | { readonly name: 'acceptOwnership'; readonly args: Nothing }
  | { readonly name: 'setDelay'; readonly args: { readonly delay: number } }
  | TcbOperation
  | { readonly name: 'rollout'; readonly args: contract.RolloutArgs }
  | { readonly name: 'rollback' | 'withdraw'; readonly args: { readonly app: string } }
  | { readonly name: 'transferOwnership'; readonly args: { readonly newOwner: string } }
  | { readonly name: 'malformed'; readonly args: { readonly data: string; readonly value: bigint } };
type Nothing = Readonly<Record<string, never>>;

/** What the contract's code can know about the block it runs in. */
export interface BlockContext {
  readonly number: number;
  /** Unix seconds. */
  readonly time: number;
  /** The hash of one of the last 256 blocks, as `0x` hex; undefined for any other. */
  hashOf(number: bigint): string | undefined;
}

export interface DeployArgs {
  readonly owner: string;
  readonly delay: number;
  readonly requestWindow: number;
}

interface OpenRequest {
  readonly node: string;
  readonly block: number;
  readonly epoch: number;
}

/** An app: at most one manifest in force, one pending, one to go back to. */
interface AppState {
  inForce?: { readonly manifest: string; readonly from: number } | undefined;
  pending?: { readonly manifest: string; readonly from: number } | undefined;
  previous?: string | undefined;
}

export class NetworkModel {
  /** Chain and contract that signatures have to name; a fork changes the chain id. */
  domain: Domain;
  owner: string;
  pendingOwner: string = ZERO_ADDRESS;
  networkKey: string = ZERO_ADDRESS;
  epoch = 0;
  onboarded = false;
  readonly requestWindow: number;
  /** From when each is allowed. */
  readonly measurements: Map<string, number> = new Map();
  readonly configs: Map<string, number> = new Map();
  readonly platforms: Map<string, number | 'revoked'> = new Map();
  /** From when platforms are open; undefined while closed. */
  open: number | undefined;
  /** `set` holds from `from` on (0: at once), `before` until then. */
  delay: { readonly set: number; readonly from: number; readonly before: number };
  readonly requests: Map<string, OpenRequest | { readonly answer: string }> = new Map();
  readonly apps: Map<string, AppState> = new Map();
  readonly tcb: TcbPolicyModel;

  /** @throws never; use `deploy`, which says what the constructor refuses */
  private constructor(args: DeployArgs, domain: Domain, time: number) {
    this.domain = domain;
    this.owner = args.owner;
    this.requestWindow = args.requestWindow;
    this.delay = { set: args.delay, from: 0, before: args.delay };
    this.tcb = new TcbPolicyModel(time);
  }

  static deploy(
    args: DeployArgs,
    domain: Domain,
    block: BlockContext,
  ): { readonly outcome: Outcome; readonly model?: NetworkModel } {
    if (args.owner === ZERO_ADDRESS) {
      return { outcome: { refused: { name: 'OwnableInvalidOwner', owner: ZERO_ADDRESS } } };
    }
    if (args.requestWindow === 0) return { outcome: { refused: { name: 'ZeroRequestWindow' } } };
    if (args.delay > YEAR) {
      return { outcome: { refused: { name: 'DelayTooLong', delay: args.delay, longest: YEAR } } };
    }
    const transferred = { name: 'OwnershipTransferred', previousOwner: ZERO_ADDRESS, newOwner: args.owner };
    const delaySet = { name: 'DelaySet', delay: args.delay, from: BigInt(block.time) };
    const statusesSet = { name: 'AcceptedTcbStatusesSet', statuses: 1, from: BigInt(block.time) };
    return {
      outcome: { accepted: [transferred, delaySet, statusesSet] },
      model: new NetworkModel(args, domain, block.time),
    };
  }

  /** Does what the contract must do, and returns the events or the refusal. A refusal changes nothing. */
  apply(operation: Operation, from: string, block: BlockContext): Outcome {
    this.#settle(block.time);
    try {
      const event = this.#run(operation, from, block);
      this.#settle(block.time);
      return { accepted: [event] };
    } catch (error) {
      if (error instanceof Refusal) return { refused: error.refused };
      throw error;
    }
  }

  #run(operation: Operation, from: string, block: BlockContext): Named {
    switch (operation.name) {
      case 'malformed':
        throw new Refusal('bare');
      case 'register':
        return this.#register(operation.args, block);
      case 'onboard':
        return this.#onboard(operation.args, block);
      case 'acceptOwnership': {
        if (from !== this.pendingOwner) refuse('OwnableUnauthorizedAccount', { account: from });
        const previousOwner = this.owner;
        [this.owner, this.pendingOwner] = [from, ZERO_ADDRESS];
        return { name: 'OwnershipTransferred', previousOwner, newOwner: from };
      }
      default:
        if (from !== this.owner) refuse('OwnableUnauthorizedAccount', { account: from });
        return this.#runAsOwner(operation, block);
    }
  }

  #runAsOwner(
    operation: Exclude<Operation, { name: 'malformed' | 'register' | 'onboard' | 'acceptOwnership' }>,
    block: BlockContext,
  ): Named {
    const { time } = block;
    switch (operation.name) {
      case 'bootstrap':
        return this.#bootstrap(operation.args, block);
      case 'transferOwnership':
        this.pendingOwner = operation.args.newOwner;
        return { name: 'OwnershipTransferStarted', previousOwner: this.owner, newOwner: this.pendingOwner };
      case 'renounceOwnership':
        return refuse('RenounceDisabled');
      case 'allowMeasurement': {
        const { measurement } = operation.args;
        return {
          name: 'MeasurementAllowed',
          measurement,
          from: this.#allow(this.measurements, measurement, time),
        };
      }
      case 'revokeMeasurement':
        revoke(this.measurements, operation.args.measurement);
        return { name: 'MeasurementRevoked', measurement: operation.args.measurement };
      case 'allowConfig': {
        const { config } = operation.args;
        return { name: 'ConfigAllowed', config, from: this.#allow(this.configs, config, time) };
      }
      case 'revokeConfig':
        revoke(this.configs, operation.args.config);
        return { name: 'ConfigRevoked', config: operation.args.config };
      case 'allowPlatform':
        return this.#allowPlatform(operation.args.platform, time);
      case 'revokePlatform': {
        const { platform } = operation.args;
        if (platform === ZERO_WORD) refuse('ZeroValue');
        if (this.platforms.get(platform) === 'revoked') refuse('NotAllowed', { value: platform });
        this.platforms.set(platform, 'revoked');
        return { name: 'PlatformRevoked', platform };
      }
      case 'openPlatforms':
        if (this.open !== undefined) refuse('PlatformsAlreadyOpen', { from: BigInt(this.open) });
        this.open = this.#loosensFrom(time);
        return { name: 'PlatformsOpened', from: BigInt(this.open) };
      case 'closePlatforms':
        if (this.open === undefined) refuse('PlatformsNotOpen');
        this.open = undefined;
        return { name: 'PlatformsClosed' };
      case 'setDelay':
        return this.#setDelay(operation.args.delay, time);
      case 'setMinimumTcbEvaluationNumber':
      case 'setAcceptedTcbStatuses':
      case 'setTcbOutOfDateGrace':
      case 'setDeniedFmspc':
        return this.tcb.apply(operation, time, this.#loosensFrom(time));
      case 'rollout':
        return this.#rollout(operation.args, time);
      case 'rollback':
        return this.#rollback(operation.args.app, time);
      case 'withdraw': {
        const { app } = operation.args;
        const state = this.apps.get(app);
        if (!state?.inForce && !state?.pending) refuse('NoManifest', { app });
        this.apps.set(app, {});
        return { name: 'Withdrawn', app };
      }
    }
  }

  // ------------------------------------------------- the network's secret

  #bootstrap(args: contract.BootstrapArgs, block: BlockContext): Named {
    if (this.onboarded) refuse('BootstrapClosed');
    const known = block.hashOf(args.blockNumber);
    const isPast = args.blockNumber < BigInt(block.number);
    if (!isPast || (known !== undefined && known !== args.blockHash)) {
      refuse('UnknownBlock', { blockNumber: args.blockNumber });
    }
    this.#requireAllowed(args, block.time);
    const epoch = this.epoch + 1;
    const { networkKey, measurement, config, platform, quoteHash, blockNumber, blockHash } = args;
    const typed = {
      networkKey,
      measurement: fromHex(measurement),
      config: fromHex(config),
      platform: fromHex(platform),
      quoteHash: fromHex(quoteHash),
      blockNumber: Number(blockNumber),
      blockHash: fromHex(blockHash),
      epoch,
    };
    requireSigner(networkKey, bootstrapDigest(this.domain, typed), args);
    [this.networkKey, this.epoch] = [networkKey, epoch];
    const shown = { networkKey, measurement, config, platform, quoteHash, blockNumber, blockHash };
    return { name: 'Bootstrapped', epoch: BigInt(epoch), ...shown };
  }

  #register(args: contract.RegisterArgs, block: BlockContext): Named {
    if (this.epoch === 0) refuse('NotBootstrapped');
    const blockHash = block.hashOf(args.blockNumber);
    if (blockHash === undefined) refuse('UnknownBlock', { blockNumber: args.blockNumber });
    const hash = requestHash({
      node: args.node,
      kemKeyHash: fromHex(args.kemKeyHash),
      quoteHash: fromHex(args.quoteHash),
      blockNumber: Number(args.blockNumber),
      blockHash: fromHex(blockHash!),
      config: fromHex(args.config),
      epoch: this.epoch,
    });
    const key = to0x(hash);
    const stored = this.requests.get(key);
    if (stored && ('answer' in stored || !this.#isExpired(stored, block.number))) {
      refuse('RequestExists', { requestHash: key });
    }
    requireSigner(args.node, requestDigest(this.domain, hash), args);
    this.requests.set(key, { node: args.node, block: block.number, epoch: this.epoch });
    return { name: 'Registered', requestHash: key, node: args.node };
  }

  #onboard(args: contract.OnboardArgs, block: BlockContext): Named {
    const stored = this.requests.get(args.requestHash);
    if (stored === undefined || 'answer' in stored) {
      return refuse('RequestNotOpen', { requestHash: args.requestHash });
    }
    if (this.#isExpired(stored, block.number)) {
      refuse('RequestExpired', { requestHash: args.requestHash });
    }
    this.#requireAllowed(args, block.time);
    const typed = {
      node: stored.node,
      requestHash: fromHex(args.requestHash),
      measurement: fromHex(args.measurement),
      config: fromHex(args.config),
      platform: fromHex(args.platform),
      answerHash: fromHex(args.answerHash),
    };
    requireSigner(this.networkKey, onboardDigest(this.domain, typed), args);
    this.requests.set(args.requestHash, { answer: args.answerHash });
    this.onboarded = true;
    const { requestHash: hash, measurement, platform } = args;
    return { name: 'Onboarded', requestHash: hash, measurement, platform };
  }

  #isExpired(request: OpenRequest, blockNumber: number): boolean {
    return blockNumber > request.block + this.requestWindow || request.epoch !== this.epoch;
  }

  // ----------------------------------------------------- who may join

  #requireAllowed(
    identity: { readonly measurement: string; readonly config: string; readonly platform: string },
    time: number,
  ): void {
    const { measurement, config, platform } = identity;
    if (!holds(this.measurements, measurement, time)) refuse('MeasurementNotAllowed', { measurement });
    if (!holds(this.configs, config, time)) refuse('ConfigNotAllowed', { config });
    if (!this.platformAllowed(platform, time)) refuse('PlatformNotAllowed', { platform });
  }

  platformAllowed(platform: string, time: number): boolean {
    const listed = this.platforms.get(platform);
    if (listed === 'revoked') return false;
    if (listed !== undefined) return time >= listed;
    return platform !== ZERO_WORD && this.#openNow(time);
  }

  #openNow(time: number): boolean {
    return this.open !== undefined && time >= this.open;
  }

  delayAt(time: number): number {
    return time >= this.delay.from ? this.delay.set : this.delay.before;
  }

  #loosensFrom(time: number): number {
    return this.epoch === 0 ? time : time + this.delayAt(time);
  }

  #allow(list: Map<string, number>, value: string, time: number): bigint {
    if (value === ZERO_WORD) refuse('ZeroValue');
    const listed = list.get(value);
    if (listed !== undefined) refuse('AlreadyAllowed', { value, from: BigInt(listed) });
    const from = this.#loosensFrom(time);
    list.set(value, from);
    return BigInt(from);
  }

  #allowPlatform(platform: string, time: number): Named {
    if (platform === ZERO_WORD) refuse('ZeroValue');
    const listed = this.platforms.get(platform);
    if (typeof listed === 'number') refuse('AlreadyAllowed', { value: platform, from: BigInt(listed) });
    const from = this.platformAllowed(platform, time) ? time : this.#loosensFrom(time);
    this.platforms.set(platform, from);
    return { name: 'PlatformAllowed', platform, from: BigInt(from) };
  }

  #setDelay(delay: number, time: number): Named {
    if (delay > YEAR) refuse('DelayTooLong', { delay, longest: YEAR });
    const present = this.delayAt(time);
    const waits = this.epoch > 0 && delay < present;
    this.delay = waits
      ? { set: delay, from: time + present, before: present }
      : { set: delay, from: 0, before: delay };
    return { name: 'DelaySet', delay, from: BigInt(waits ? time + present : time) };
  }

  // ---------------------------------------------------------------- apps

  #rollout(args: contract.RolloutArgs, time: number): Named {
    const { app, manifestHash } = args;
    if (manifestHash === ZERO_WORD) refuse('ZeroValue');
    const state = this.apps.get(app) ?? {};
    if (!this.apps.has(app) && !isAppName(app)) refuse('InvalidAppName', { app });
    const from = this.#loosensFrom(time);
    this.apps.set(app, { ...state, pending: { manifest: manifestHash, from } });
    return { name: 'RolledOut', app, manifestHash, from: BigInt(from) };
  }

  #rollback(app: string, time: number): Named {
    const state = this.apps.get(app) ?? {};
    if (!state.pending && state.previous === undefined) refuse('NoPreviousManifest', { app });
    const manifest = state.pending ? state.inForce?.manifest : state.previous;
    this.apps.set(app, manifest === undefined ? {} : { inForce: { manifest, from: time } });
    return { name: 'RolledBack', app, manifestHash: manifest ?? ZERO_WORD };
  }

  /** What has come into force by now. */
  #settle(time: number): void {
    for (const [app, { inForce, pending }] of this.apps) {
      if (!pending || time < pending.from) continue;
      this.apps.set(app, { inForce: pending, previous: inForce?.manifest });
    }
  }

  // --------------------------------------------------------------- views

  /** `network()`, as the bindings decode it. */
  network(time: number): contract.NetworkView {
    return {
      networkKey: parseAddress(this.networkKey),
      epoch: this.epoch,
      onboarded: this.onboarded,
      delay: this.delayAt(time),
      requestWindow: this.requestWindow,
      platformsOpen: this.#openNow(time),
    };
  }

  request(hash: string, blockNumber: number): contract.RequestView {
    const stored = this.requests.get(hash);
    const none = {
      node: parseAddress(ZERO_ADDRESS),
      blockNumber: 0n,
      expiresAfter: 0n,
      epoch: 0,
      answerHash: parseHex(ZERO_WORD),
    };
    if (stored === undefined) return { state: 'none', ...none };
    if ('answer' in stored)
      return { state: 'answered', ...none, answerHash: parseHex(`${stored.answer.slice(0, -2)}00`) };
    return {
      state: this.#isExpired(stored, blockNumber) ? 'expired' : 'open',
      node: parseAddress(stored.node),
      blockNumber: BigInt(stored.block),
      expiresAfter: BigInt(stored.block + this.requestWindow),
      epoch: stored.epoch,
      answerHash: parseHex(ZERO_WORD),
    };
  }

  isAllowed(
    identity: { readonly measurement: string; readonly config: string; readonly platform: string },
    time: number,
  ): contract.IsAllowedResult {
    return {
      measurementAllowed: holds(this.measurements, identity.measurement, time),
      configAllowed: holds(this.configs, identity.config, time),
      platformAllowed: this.platformAllowed(identity.platform, time),
    };
  }

  platformAllowedFrom(platform: string): bigint {
    const listed = this.platforms.get(platform);
    return listed === 'revoked' ? UINT64_MAX : BigInt(listed ?? 0);
  }

  nextDelay(): contract.NextDelayResult {
    return { delay: this.delay.set, from: BigInt(this.delay.from) };
  }

  appsAfter({ skipped, most }: contract.AppsAfterArgs, time: number): contract.AppsAfterResult {
    const names = [...this.apps.keys()];
    const list: contract.AppView[] = [];
    let next = Number(skipped);
    for (; next < names.length && list.length < most; next += 1) {
      const view = this.app(names[next]!, time);
      if (view.latest !== ZERO_WORD) list.push(view);
    }
    return { list, next: next >= names.length ? 0n : BigInt(next) };
  }

  app(app: string, time: number): contract.AppView {
    this.#settle(time);
    const { inForce, pending } = this.apps.get(app) ?? {};
    const latest = pending ?? inForce;
    return {
      app: parseHex(app),
      manifestHash: parseHex(inForce?.manifest ?? ZERO_WORD),
      latest: parseHex(latest?.manifest ?? ZERO_WORD),
      from: BigInt(latest?.from ?? 0),
    };
  }

  verifyAttestation(args: contract.VerifyAttestationArgs): boolean {
    if (args.v !== 27 && args.v !== 28) return false;
    const s = fromHex(args.s, 32);
    if (BigInt(args.s) > HALF_ORDER) return false;
    const vs = s.slice();
    if (args.v === 28) vs[0] = vs[0]! | 0x80;
    const digest = attestationDigest(this.domain, {
      app: fromHex(args.app, 32),
      tag: args.tag,
      data: fromHex(args.data),
    });
    const signer = signerOf(digest, args.r, to0x(vs));
    return signer !== undefined && signer === this.networkKey;
  }
}

function holds(list: ReadonlyMap<string, number>, value: string, time: number): boolean {
  const from = list.get(value);
  return from !== undefined && time >= from;
}

function revoke(list: Map<string, number>, value: string): void {
  if (!list.delete(value)) refuse('NotAllowed', { value });
}

/** 1 to 31 characters of a-z, 0-9 and "-", padded with zeros. */
function isAppName(app: string): boolean {
  return /^[a-z0-9-]{1,31}\0+$/.test(Buffer.from(app.slice(2), 'hex').toString('latin1'));
}

/** The order of the checks is OpenZeppelin's: a high s, then no signer, and only then who it is. */
function requireSigner(expected: string, digest: Uint8Array, signature: { r: string; vs: string }): void {
  const s = BigInt(signature.vs) & ((1n << 255n) - 1n);
  if (s > HALF_ORDER) refuse('ECDSAInvalidSignatureS', { s: `0x${s.toString(16).padStart(64, '0')}` });
  const signer = signerOf(digest, signature.r, signature.vs);
  if (signer === undefined) refuse('ECDSAInvalidSignature');
  if (signer !== expected) refuse('WrongSigner', { expected, signer });
}

/** The lower-case address that signed, by noble's recovery: another implementation than the EVM's precompile. */
function signerOf(digest: Uint8Array, r: string, vs: string): string | undefined {
  try {
    return recover(digest, fromHex(r, 32), fromHex(vs, 32)).toLowerCase();
  } catch (error) {
    if (hasCode(error, 'SIGNATURE_INVALID')) return undefined;
    throw error;
  }
}
