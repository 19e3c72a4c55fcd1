/** A chain whose accounts are unlocked, by JSON-RPC: that of `dstack dev`, the gas table and tests. */
import * as contract from '../lib/protocol/network-contract.ts';

const GAS_LIMIT = '0x989680';

export interface Receipt {
  readonly gasUsed: number;
  readonly contractAddress: string;
  readonly events: readonly contract.NetworkEvent[];
}

/** A transaction that was mined and refused. */
export class Refused extends Error {
  readonly refusal: contract.NetworkError | undefined;

  constructor(refusal: contract.NetworkError | undefined, data: string) {
    super(refusal ? contract.describeNetworkError(refusal) : `refused with ${data}`);
    this.refusal = refusal;
  }
}

/** Why the contract refuses a call: its error, or else what the chain said; `accepted` if it is not refused. */
export async function refusalOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'accepted',
    (error: unknown) => (error instanceof Refused ? (error.refusal ?? error.message) : error),
  );
}

interface RawReceipt {
  readonly transactionHash: string;
  readonly status: string;
  readonly gasUsed: string;
  readonly contractAddress: string;
  readonly logs: readonly { readonly topics: readonly string[]; readonly data: string }[];
}

/** JSON-RPC to an anvil that mines a block for each transaction. */
export class Chain {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  async rpc<T>(method: string, ...params: readonly unknown[]): Promise<T> {
    const response = await fetch(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    const answer = (await response.json()) as { result: T; error?: { message: string } };
    if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
    return answer.result;
  }

  accounts(): Promise<readonly string[]> {
    return this.rpc('eth_accounts');
  }

  async chainId(): Promise<number> {
    return Number(await this.rpc<string>('eth_chainId'));
  }

  /** Number, hash and Unix time of the newest block. */
  async head(): Promise<{ number: number; hash: Uint8Array; time: bigint }> {
    return this.block('latest');
  }

  async block(which: 'latest' | number): Promise<{ number: number; hash: Uint8Array; time: bigint }> {
    const tag = typeof which === 'number' ? `0x${which.toString(16)}` : which;
    const block = await this.rpc<{ number: string; hash: string; timestamp: string }>(
      'eth_getBlockByNumber',
      tag,
      false,
    );
    return {
      number: Number(block.number),
      hash: Buffer.from(block.hash.slice(2), 'hex'),
      time: BigInt(block.timestamp),
    };
  }

  /** Mines it as a transaction, since that is what is paid for, and throws `Refused` with the contract's error. */
  async send(from: string, to: string | undefined, data: string): Promise<Receipt> {
    // Waits for the receipt, which plain eth_sendTransaction does not even when each transaction is mined.
    const receipt = await this.rpc<RawReceipt>('eth_sendTransactionSync', { from, to, data, gas: GAS_LIMIT });
    if (receipt.status !== '0x1') {
      const options = { tracer: 'callTracer' };
      const trace = await this.rpc<{ output?: string }>(
        'debug_traceTransaction',
        receipt.transactionHash,
        options,
      );
      const output = trace.output ?? '0x';
      throw new Refused(contract.parseNetworkError(output), output);
    }
    const events = receipt.logs.map((log) => contract.parseNetworkEvent(log));
    return {
      gasUsed: Number(receipt.gasUsed),
      contractAddress: receipt.contractAddress,
      events: events.filter((event) => event !== undefined),
    };
  }

  call(to: string, data: string): Promise<string> {
    return this.rpc('eth_call', { to, data }, 'latest');
  }

  async mine(blocks: number): Promise<void> {
    await this.rpc('anvil_mine', `0x${blocks.toString(16)}`);
  }

  /** Lets time pass and mines one block, so that calls see it. */
  async pass(seconds: number): Promise<void> {
    await this.rpc('evm_increaseTime', seconds);
    await this.mine(1);
  }

  /** The time of the next block, exactly. */
  async nextBlockAt(time: bigint): Promise<void> {
    await this.rpc('evm_setNextBlockTimestamp', Number(time));
  }
}
