/** Watches the balance of the gas key, and warns before it runs out. */
import type { Log } from '../../daemon/log.ts';
import type { Metrics } from '../../daemon/metrics.ts';
import type { Address } from '../../protocol/hex.ts';
import type { Rpc } from '../endpoint/rpc.ts';

export interface BalanceOptions {
  rpc: Rpc;
  /** The account that pays. */
  address: Address;
  log: Log;
  metrics: Metrics;
  /** Wei; below it the operator is warned. */
  lowBalance: bigint;
  /** Wei per gas; the most that a transaction may cost. */
  maxFee: bigint;
  now: () => number;
}

const LOOK_EVERY_MS = 60_000;
const SAY_EVERY_MS = 3_600_000;
/** Gas of `register` and `onboard` together, plus a quarter: docs/gas.md. */
const JOIN_GAS = 130_000n;

export class BalanceWatch {
  readonly #options: BalanceOptions;
  #lookedAt = 0;
  #saidAt: number | undefined;
  #wei: bigint | undefined;

  constructor(options: BalanceOptions) {
    this.#options = options;
  }

  /** Wei, as of the last look; undefined before the first. */
  get wei(): bigint | undefined {
    return this.#wei;
  }

  /** Wei; a balance below it is low. */
  get low(): bigint {
    return this.#options.lowBalance;
  }

  /** What the operator has to do; undefined unless the balance is low. */
  get warning(): string | undefined {
    if (this.#wei === undefined || this.#wei >= this.#options.lowBalance) return undefined;
    const { address, maxFee } = this.#options;
    const joins = this.#wei / (JOIN_GAS * maxFee);
    return `the gas key runs low: send ${address} some ether; it has ${ether(this.#wei)}, enough for ${joins} joins at the fee ceiling`;
  }

  /** @param every milliseconds between two looks, at least; a minute. @throws RPC_* */
  async look(every = LOOK_EVERY_MS): Promise<void> {
    const { now, rpc, address, metrics, log } = this.#options;
    if (now() - this.#lookedAt < every) return;
    this.#wei = await rpc.balance(address);
    this.#lookedAt = now();
    const { warning } = this;
    metrics.gauge(
      'dstack_relay_gas_balance_eth',
      'What the gas key has, in ether.',
      Number(this.#wei) / 1e18,
    );
    metrics.gauge(
      'dstack_relay_gas_low',
      '1 when the gas key has less than DSTACK_LOW_BALANCE_ETH.',
      warning === undefined ? 0 : 1,
    );
    if (warning === undefined) {
      if (this.#saidAt !== undefined)
        log.info({ address, wei: String(this.#wei) }, 'the gas key has enough again');
      this.#saidAt = undefined;
    } else if (this.#saidAt === undefined || now() - this.#saidAt >= SAY_EVERY_MS) {
      this.#saidAt = now();
      log.warn({ address, wei: String(this.#wei) }, warning);
    }
  }
}

/** Rounded down to six decimals. */
function ether(wei: bigint): string {
  const micro = wei / 10n ** 12n;
  return `${micro / 1_000_000n}.${String(micro % 1_000_000n).padStart(6, '0')} ether`;
}
