/** The operator's own connection to the chain: an RPC endpoint, a key from a file, and transactions that report. */
import { readFileSync } from 'node:fs';
import { isCallException, isError, JsonRpcProvider, type TransactionReceipt, Wallet } from 'ethers';
import { DstackError } from '../lib/protocol/errors.ts';
import { describeNetworkError, parseNetworkError } from '../lib/protocol/network-contract.ts';
import type { Arguments, Option } from './command.ts';

export const rpcOption: Option = {
  value: 'URL',
  help: 'JSON-RPC endpoint',
  env: 'DSTACK_RPC_URL',
  required: true,
};
export const contractOption: Option = {
  value: 'ADDRESS',
  help: 'the network’s contract',
  env: 'DSTACK_CONTRACT',
  required: true,
};
export const ownerKeyOption: Option = {
  value: 'FILE',
  help: 'file with the owner’s private key, in hex',
  env: 'DSTACK_OWNER_KEY_FILE',
  required: true,
};

export function provider(args: Arguments): JsonRpcProvider {
  return new JsonRpcProvider(args.text('rpc'), undefined, {
    staticNetwork: true,
    pollingInterval: 500,
    cacheTimeout: -1,
  });
}

/** @throws KEY_FILE when the file does not hold one private key */
export function walletFrom(file: string, rpc: JsonRpcProvider): Wallet {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new DstackError('KEY_FILE', `cannot read the key file ${file}`, { cause });
  }
  if (!/^(0x)?[0-9a-fA-F]{64}$/.test(text)) {
    throw new DstackError('KEY_FILE', `${file} does not hold a private key of 32 bytes in hex`);
  }
  return new Wallet(text.startsWith('0x') ? text : `0x${text}`, rpc);
}

/** Sends one transaction and waits for it; a revert comes back as the contract's own error, explained. */
export async function send(
  wallet: Wallet,
  transaction: { to?: string; data: string },
): Promise<TransactionReceipt> {
  try {
    const sent = await wallet.sendTransaction(transaction);
    console.log(`sent ${sent.hash}; waiting`);
    const receipt = await sent.wait();
    if (receipt === null || receipt.status !== 1)
      throw new DstackError('TRANSACTION_FAILED', `${sent.hash} failed`);
    console.log(`in block ${receipt.blockNumber}, ${receipt.gasUsed} gas`);
    return receipt;
  } catch (error) {
    throw explained(error);
  }
}

/** One view call; refusals as in `send`. */
export async function view(rpc: JsonRpcProvider, to: string, data: string): Promise<string> {
  try {
    return await rpc.call({ to, data });
  } catch (error) {
    throw explained(error);
  }
}

function explained(error: unknown): unknown {
  if (isCallException(error) && error.data) {
    const known = parseNetworkError(error.data);
    if (known !== undefined) {
      return new DstackError('CONTRACT_REFUSED', `${known.name}: ${describeNetworkError(known)}`, {
        cause: error,
      });
    }
  }
  if (isError(error, 'INSUFFICIENT_FUNDS')) {
    return new DstackError('BALANCE_TOO_LOW', 'the key’s account cannot pay for this transaction', {
      cause: error,
    });
  }
  if (isError(error, 'NETWORK_ERROR') || isError(error, 'SERVER_ERROR') || isError(error, 'TIMEOUT')) {
    return new DstackError('RPC_UNREACHABLE', `the RPC endpoint does not answer: ${error.shortMessage}`, {
      cause: error,
    });
  }
  return error;
}
