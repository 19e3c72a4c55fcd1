/**
 * What the contract says about a host that wants to join, as reported by this host's endpoint. A lie costs no more than a start in
 * vain, since the nodes read the chain for themselves.
 */
import { Network, type RecentView } from '../../host/relay/network.ts';
import { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import { appList } from '../../lib/protocol/app-list.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, type Hex, ZERO_WORD } from '../../lib/protocol/hex.ts';
import {
  type AppView,
  decodeConfigAllowedFrom,
  decodeIsAllowed,
  decodeMeasurementAllowedFrom,
  decodePlatformAllowedFrom,
  encodeConfigAllowedFrom,
  encodeIsAllowed,
  encodeMeasurementAllowedFrom,
  encodePlatformAllowedFrom,
  type RequestView,
} from '../../lib/protocol/network-contract.ts';

/** Not allowed at all, allowed from a time on (Unix seconds), or kept out by name. */
export type Permission = 'yes' | 'no' | 'revoked' | { readonly from: bigint };

export interface Permissions {
  readonly measurement: Permission;
  readonly config: Permission;
  readonly platform: Permission;
}

/** Each 0x-prefixed, 32 bytes. */
export interface NodeClaims {
  readonly measurement: string;
  readonly config: string;
  /** Undefined when it is not known yet; then nothing is said about it. */
  readonly platform: string | undefined;
}

/** Wei. */
export interface Funds {
  readonly balance: bigint;
  /** For `register` and `onboard` at the current price, with the reserve that the relay insists on. */
  readonly needed: bigint;
}

/**
 * Gas of the most expensive `register` and `onboard` (docs/gas.md: 54,629 and 48,096), plus a quarter, which the relay adds to its
 * estimates.
 */
const JOIN_GAS = 130_000n;
/** The date that the contract keeps for a revoked platform. */
const NEVER = 2n ** 64n - 1n;

export interface ContractOptions {
  readonly rpcUrl: string;
  readonly chainId: number;
  readonly contract: Address;
  readonly maxFeeGwei: number;
}

export class ContractView {
  readonly #rpc: Rpc;
  readonly #network: Network;
  readonly #options: ContractOptions;

  constructor(options: ContractOptions) {
    this.#options = options;
    this.#rpc = new Rpc({ url: options.rpcUrl, chainId: options.chainId, contract: options.contract });
    this.#network = new Network(this.#rpc, { chainId: options.chainId, contract: options.contract });
  }

  /**
   * The network and the newest block.
   * @throws NETWORK_MISSING when no network's contract is at the address; Retryable RPC_* when the endpoint fails
   */
  async network(): Promise<{ view: RecentView; head: number }> {
    try {
      return await this.#network.recent();
    } catch (error) {
      const absent =
        codeOf(error) === 'CONTRACT_DATA_INVALID' ||
        (codeOf(error) === 'RPC_REFUSED' && /revert/i.test((error as Error).message));
      if (!absent) throw error;
      const { contract, chainId } = this.#options;
      throw new DstackError(
        'NETWORK_MISSING',
        `there is no network's contract at ${contract} on chain ${chainId}: check --network (DSTACK_CONTRACT)`,
        { cause: error },
      );
    }
  }

  /** Every app that has a manifest, pending or in force. */
  async apps(): Promise<readonly AppView[]> {
    return appList((data) => this.#rpc.call(data));
  }

  /** @param hash 64 hex digits */
  request(hash: Hex): Promise<RequestView> {
    return this.#network.request(hash);
  }

  async permissions(of: NodeClaims): Promise<Permissions> {
    const { measurement, config, platform } = of;
    const now = decodeIsAllowed(
      await this.#rpc.call(encodeIsAllowed({ measurement, config, platform: platform ?? ZERO_WORD })),
    );
    const from = async (allowed: boolean, read: () => Promise<bigint>): Promise<Permission> => {
      if (allowed) return 'yes';
      const date = await read();
      return date === 0n ? 'no' : date === NEVER ? 'revoked' : { from: date };
    };
    return {
      measurement: await from(now.measurementAllowed, async () =>
        decodeMeasurementAllowedFrom(await this.#rpc.call(encodeMeasurementAllowedFrom({ measurement }))),
      ),
      config: await from(now.configAllowed, async () =>
        decodeConfigAllowedFrom(await this.#rpc.call(encodeConfigAllowedFrom({ config }))),
      ),
      platform:
        platform === undefined
          ? 'yes'
          : await from(now.platformAllowed, async () =>
              decodePlatformAllowedFrom(await this.#rpc.call(encodePlatformAllowedFrom({ platform }))),
            ),
    };
  }

  /** Whether nodes with this network.json may join now. */
  async isConfigAllowed(config: string): Promise<boolean> {
    const answer = await this.#rpc.call(
      encodeIsAllowed({ measurement: ZERO_WORD, config, platform: ZERO_WORD }),
    );
    return decodeIsAllowed(answer).configAllowed;
  }

  async funds(account: string): Promise<Funds> {
    const price = await this.#price();
    const ceiling = BigInt(Math.round(this.#options.maxFeeGwei * 1e9));
    return {
      balance: await this.#rpc.balance(account),
      needed: JOIN_GAS * (price < ceiling ? price : ceiling),
    };
  }

  /** Wei a gas that a transaction would offer, before the ceiling: as lib/framework/transactions/fees.ts reckons. */
  async #price(): Promise<bigint> {
    const { baseFee } = await this.#rpc.head();
    if (baseFee === undefined) return this.#rpc.gasPrice();
    const tip = await this.#rpc.priorityFee().catch((error) => {
      // Without the method, one gwei is what clients agree on.
      if (codeOf(error) === 'RPC_REFUSED') return 1_000_000_000n;
      throw error;
    });
    return 2n * baseFee + tip;
  }
}
