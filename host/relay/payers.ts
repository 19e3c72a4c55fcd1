/** The chain of each network. Networks whose gas key is the same on a chain have one payer, whichever files hold the key. */
import type { Logger } from 'pino';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import type { HostEndpoint } from '../../lib/framework/endpoint/rpc.ts';
import { EvmChain } from '../../lib/framework/host/chain-client.ts';
import type { Store } from '../../lib/framework/store.ts';
import type { Transactions } from '../../lib/framework/transactions/transactions.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { networkErrorInWords } from '../../lib/protocol/network-error-words.ts';
import { type NetworkSettings, readGasKey } from './settings.ts';

export interface PayersOptions {
  /** Where every payer keeps its queue. */
  store: Store;
  metrics: Metrics;
  log: Logger;
}

/** The settings that decide how a payer pays: networks that share a payer must agree on them. */
const TERMS = {
  maxFeeGwei: 'DSTACK_MAX_FEE_GWEI',
  feeBumpSeconds: 'DSTACK_FEE_BUMP_SECONDS',
  lowBalanceEth: 'DSTACK_LOW_BALANCE_ETH',
  confirmations: 'DSTACK_CONFIRMATIONS',
} as const;

/** Of one transaction: more than `register` or `onboard` takes. */
const MAX_GAS = 1_000_000n;

export class Payers {
  readonly #options: PayersOptions;
  readonly #payers = new Map<string, { payer: Transactions; terms: NetworkSettings }>();

  constructor(options: PayersOptions) {
    this.#options = options;
  }

  /**
   * The chain of a network, read through the network's own endpoint. A payer sends through that of its first network.
   * @throws GAS_KEY; SETTINGS when another network of this payer sets other terms
   */
  chainOf(settings: NetworkSettings, endpoint: HostEndpoint): EvmChain {
    const { chainId, rpcUrl: url, pollMs: pollInterval } = settings;
    const privateKey = readGasKey(settings.gasKeyFile);
    // The map is in memory only, like the keys themselves.
    const id = `${chainId} ${privateKey.toLowerCase()}`;
    const known = this.#payers.get(id);
    if (known !== undefined) {
      requireSameTerms(known.terms, settings);
      return new EvmChain({ url, endpoint, chainId, pollInterval, payer: known.payer });
    }
    const chain = new EvmChain({
      ...{ url, endpoint, chainId, pollInterval, privateKey },
      ...this.#options,
      errorInWords: networkErrorInWords,
      maxFee: wei(settings.maxFeeGwei, 9),
      maxFeeSetting: TERMS.maxFeeGwei,
      maxGas: MAX_GAS,
      bumpAfter: settings.feeBumpSeconds * 1000,
      confirmations: settings.confirmations,
      lowBalance: wei(settings.lowBalanceEth, 18),
    });
    this.#payers.set(id, { payer: chain.payer, terms: settings });
    return chain;
  }

  start(): void {
    for (const { payer } of this.#payers.values()) payer.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#payers.values()].map(({ payer }) => payer.stop()));
  }
}

function requireSameTerms(one: NetworkSettings, other: NetworkSettings): void {
  for (const [field, name] of Object.entries(TERMS) as [keyof typeof TERMS, string][]) {
    if (one[field] === other[field]) continue;
    throw new DstackError(
      'SETTINGS',
      `${name} is ${one[field]} for ${one.contract} and ${other[field]} for ${other.contract}, which the same gas key pays for: make them equal, or give one its own DSTACK_GAS_KEY_FILE`,
    );
  }
}

/** A decimal amount in its smallest unit, computed without floats, which can't hold it exactly. */
function wei(amount: number, decimals: number): bigint {
  const [whole = '0', fraction = ''] = amount.toFixed(9).split('.');
  return BigInt(whole + fraction.padEnd(decimals, '0').slice(0, decimals));
}
