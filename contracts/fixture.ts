/**
 * What the contract's tests and its gas table share: a deployed network, and the signed arguments that nodes
 * would make, by lib/protocol's own typed data, so that each side checks the other.
 */
import { to0x } from '../lib/protocol/encoding.ts';
import { type Address, parseAddress } from '../lib/protocol/hex.ts';
import * as contract from '../lib/protocol/network-contract.ts';
import { addressOf, type CompactSignature, compact, keccak256, sign } from '../lib/protocol/secp256k1.ts';
import {
  bootstrapDigest,
  type Domain,
  onboardDigest,
  type Request,
  requestDigest,
  requestHash,
} from '../lib/protocol/typed-data.ts';
import { encodeDeploy } from './bindings.ts';
import type { Chain, Receipt } from './local-chain.ts';

/** A distinct, recognisable 32-byte value for a test. */
export function value(name: string): Uint8Array {
  return keccak256(new TextEncoder().encode(name));
}

export const MEASUREMENT = value('measurement');
export const CONFIG = value('config');
export const PLATFORM = value('platform');
export const NETWORK_PRIVATE_KEY = value('network key');

/** The three values that a bootstrap and an onboard name. */
export interface Identity {
  readonly measurement: Uint8Array;
  readonly config: Uint8Array;
  readonly platform: Uint8Array;
}
const IDENTITY: Identity = { measurement: MEASUREMENT, config: CONFIG, platform: PLATFORM };

export interface SignedRequest {
  readonly hash: string;
  readonly node: Address;
  readonly args: contract.RegisterArgs;
}

/** A network on a chain, its owner and somebody else. */
export class TestNetwork {
  readonly chain: Chain;
  readonly address: Address;
  readonly domain: Domain;
  readonly owner: string;
  readonly stranger: string;
  #nodes = 0;

  private constructor(chain: Chain, address: Address, chainId: number, accounts: readonly string[]) {
    this.chain = chain;
    this.address = address;
    this.domain = { chainId, contract: address };
    this.owner = accounts[0]!;
    this.stranger = accounts[1]!;
  }

  static async deploy(
    chain: Chain,
    options: { readonly delay?: number; readonly requestWindow?: number } = {},
  ): Promise<TestNetwork> {
    const accounts = await chain.accounts();
    const { delay = 0, requestWindow = 50 } = options;
    const receipt = await chain.send(
      accounts[0]!,
      undefined,
      encodeDeploy({ owner: accounts[0]!, delay, requestWindow }),
    );
    return new TestNetwork(chain, parseAddress(receipt.contractAddress), await chain.chainId(), accounts);
  }

  /** Deployed, with measurement, config and platform allowed and the network key in place. */
  static async bootstrapped(
    chain: Chain,
    options: { readonly delay?: number; readonly requestWindow?: number } = {},
  ): Promise<TestNetwork> {
    const network = await TestNetwork.deploy(chain, options);
    await network.allowAll();
    await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs()));
    return network;
  }

  async allowAll(): Promise<void> {
    await this.asOwner(contract.encodeAllowMeasurement({ measurement: to0x(MEASUREMENT) }));
    await this.asOwner(contract.encodeAllowConfig({ config: to0x(CONFIG) }));
    await this.asOwner(contract.encodeAllowPlatform({ platform: to0x(PLATFORM) }));
  }

  asOwner(data: string): Promise<Receipt> {
    return this.chain.send(this.owner, this.address, data);
  }

  asStranger(data: string): Promise<Receipt> {
    return this.chain.send(this.stranger, this.address, data);
  }

  async read<T>(data: string, decode: (answer: string) => T): Promise<T> {
    return decode(await this.chain.call(this.address, data));
  }

  state(): Promise<contract.NetworkView> {
    return this.read(contract.encodeNetwork(), contract.decodeNetwork);
  }

  request(hash: string): Promise<contract.RequestView> {
    return this.read(contract.encodeRequest({ requestHash: hash }), contract.decodeRequest);
  }

  allowed(identity: Partial<Identity> = {}): Promise<contract.IsAllowedResult> {
    return this.read(contract.encodeIsAllowed(hexed({ ...IDENTITY, ...identity })), contract.decodeIsAllowed);
  }

  app(name: string): Promise<contract.AppView> {
    return this.read(contract.encodeAppOf({ app: appId(name) }), contract.decodeAppOf);
  }

  /** What the first node exports and the owner posts. */
  async bootstrapArgs(
    options: {
      readonly key?: Uint8Array;
      readonly epoch?: number;
      readonly identity?: Partial<Identity>;
      readonly block?: { readonly number: number; readonly hash: Uint8Array };
      readonly domain?: Domain;
    } = {},
  ): Promise<contract.BootstrapArgs> {
    const key = options.key ?? NETWORK_PRIVATE_KEY;
    const block = options.block ?? (await this.chain.head());
    const identity = { ...IDENTITY, ...options.identity };
    const networkKey = addressOf(key);
    const quoteHash = value('bootstrap quote');
    const epoch = options.epoch ?? (await this.state()).epoch + 1;
    const typed = {
      ...identity,
      networkKey,
      quoteHash,
      blockNumber: block.number,
      blockHash: block.hash,
      epoch,
    };
    return {
      ...hexed(identity),
      ...signed(bootstrapDigest(options.domain ?? this.domain, typed), key),
      networkKey,
      quoteHash: to0x(quoteHash),
      blockNumber: BigInt(block.number),
      blockHash: to0x(block.hash),
    };
  }

  /** A fresh node's request over the newest block. */
  async requestArgs(
    options: {
      readonly key?: Uint8Array;
      readonly claimedNode?: string;
      readonly block?: { readonly number: number; readonly hash: Uint8Array };
      readonly epoch?: number;
      readonly domain?: Domain;
    } = {},
  ): Promise<SignedRequest> {
    const key = options.key ?? value(`node ${this.#nodes++}`);
    const block = options.block ?? (await this.chain.head());
    const typed: Request = {
      node: options.claimedNode ?? addressOf(key),
      kemKeyHash: value('KEM key'),
      quoteHash: value('quote'),
      blockNumber: block.number,
      blockHash: block.hash,
      config: CONFIG,
      epoch: options.epoch ?? (await this.state()).epoch,
    };
    const hash = requestHash(typed);
    return {
      hash: to0x(hash),
      node: parseAddress(typed.node),
      args: {
        ...signed(requestDigest(options.domain ?? this.domain, hash), key),
        node: typed.node,
        kemKeyHash: to0x(typed.kemKeyHash),
        quoteHash: to0x(typed.quoteHash),
        blockNumber: BigInt(block.number),
        config: to0x(typed.config),
      },
    };
  }

  /** A request that is open. */
  async registered(): Promise<SignedRequest> {
    const request = await this.requestArgs();
    await this.asStranger(contract.encodeRegister(request.args));
    return request;
  }

  /** What an onboarding node answers. */
  onboardArgs(
    request: { readonly hash: string; readonly node: Address },
    options: {
      readonly key?: Uint8Array;
      readonly identity?: Partial<Identity>;
      readonly domain?: Domain;
      readonly answerHash?: Uint8Array;
    } = {},
  ): contract.OnboardArgs {
    const identity = { ...IDENTITY, ...options.identity };
    const answerHash = options.answerHash ?? value('answer');
    const typed = {
      ...identity,
      answerHash,
      node: request.node,
      requestHash: Buffer.from(request.hash.slice(2), 'hex'),
    };
    return {
      ...hexed(identity),
      ...signed(onboardDigest(options.domain ?? this.domain, typed), options.key ?? NETWORK_PRIVATE_KEY),
      requestHash: request.hash,
      answerHash: to0x(answerHash),
    };
  }
}

/** An app's id on chain: its name, padded. */
export function appId(name: string): string {
  return `0x${Buffer.from(name).toString('hex').padEnd(64, '0')}`;
}

function signed(digest: Uint8Array, key: Uint8Array): CompactSignature {
  return compact(sign(digest, key));
}

function hexed(identity: Identity): { measurement: string; config: string; platform: string } {
  return {
    measurement: to0x(identity.measurement),
    config: to0x(identity.config),
    platform: to0x(identity.platform),
  };
}
