/** The gas key: it signs transactions of one chain, and is used for nothing else. */
import { computeAddress, SigningKey, Transaction } from 'ethers';
import { DstackError } from '../../protocol/errors.ts';
import { type Address, parseAddress } from '../../protocol/hex.ts';
import type { Fees } from './fees.ts';

export interface Unsigned {
  nonce: number;
  /** Absent: the transaction creates a contract. */
  to?: string;
  /** Hex with 0x; absent: none. */
  data?: string;
  gas: bigint;
  fees: Fees;
}

export class Signer {
  readonly address: Address;
  readonly #key: SigningKey;
  readonly #chainId: number;

  /**
   * @param privateKey 32 bytes, 0x-prefixed; kept in memory only, never logged
   * @throws GAS_KEY when it is not a private key
   */
  constructor(privateKey: string, chainId: number) {
    try {
      this.#key = new SigningKey(privateKey);
      this.address = parseAddress(computeAddress(this.#key));
    } catch {
      // The cause would quote the key.
      throw new DstackError('GAS_KEY', 'the gas key is not a secp256k1 private key of 32 bytes');
    }
    this.#chainId = chainId;
  }

  /** A transaction without value, EIP-1559 or legacy (with EIP-155); `raw` is ready to be sent. */
  sign(unsigned: Unsigned): { hash: string; raw: string } {
    const transaction = transactionOf(this.#chainId, unsigned);
    transaction.signature = this.#key.sign(transaction.unsignedHash);
    return { hash: transaction.hash!, raw: transaction.serialized };
  }
}

/** What is signed: a transaction without value, EIP-1559, or legacy with EIP-155. */
export function transactionOf(chainId: number, { nonce, to, data = '0x', gas, fees }: Unsigned): Transaction {
  return Transaction.from({
    chainId,
    nonce,
    to: to ?? null,
    data,
    gasLimit: gas,
    ...(fees.legacy
      ? { type: 0, gasPrice: fees.maxFee }
      : { type: 2, maxFeePerGas: fees.maxFee, maxPriorityFeePerGas: fees.tip }),
  });
}
