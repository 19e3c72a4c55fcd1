/** One nonce manager for each gas key on each chain, shared by all networks that it pays for. */
import type { Logger } from 'pino';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import { type HostEndpoint, Rpc } from '../../lib/framework/endpoint/rpc.ts';
import type { Store } from '../../lib/framework/store.ts';
import { Transactions } from '../../lib/framework/transactions/transactions.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
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

export class Payers {
  readonly #options: PayersOptions;
  readonly #payers = new Map<string, { transactions: Transactions; terms: NetworkSettings }>();

  constructor(options: PayersOptions) {
    this.#options = options;
  }

  /**
   * The payer of a network: the same object for the same key on the same chain, whichever files hold the key. It sends
   * through the endpoint of the first network.
   * @throws GAS_KEY; SETTINGS when another network of this payer sets other terms
   */
  of(settings: NetworkSettings, { endpoint, heads }: HostEndpoint): Transactions {
    const { chainId } = settings;
    const privateKey = readGasKey(settings.gasKeyFile);
    // The map is in memory only, like the keys themselves.
    const id = `${chainId} ${privateKey.toLowerCase()}`;
    const known = this.#payers.get(id);
    if (known !== undefined) {
      requireSameTerms(known.terms, settings);
      return known.transactions;
    }
    const { store, metrics, log } = this.#options;
    const transactions = new Transactions({
      store,
      rpc: new Rpc({ url: settings.rpcUrl, endpoint, heads, chainId, contract: settings.contract }),
      chainId,
      privateKey,
      log,
      metrics,
      maxFee: wei(settings.maxFeeGwei, 9),
      maxFeeSetting: TERMS.maxFeeGwei,
      bumpAfter: settings.feeBumpSeconds * 1000,
      confirmations: settings.confirmations,
      lowBalance: wei(settings.lowBalanceEth, 18),
      pollInterval: settings.pollMs,
    });
    this.#payers.set(id, { transactions, terms: settings });
    return transactions;
  }

  start(): void {
    for (const { transactions } of this.#payers.values()) transactions.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#payers.values()].map(({ transactions }) => transactions.stop()));
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
