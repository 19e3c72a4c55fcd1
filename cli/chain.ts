/** The operator's own connection to the chain: an RPC endpoint, a key from a file, and transactions that report. */
import { readFileSync } from 'node:fs';
import { isCallException, isError, JsonRpcProvider, Network, type TransactionReceipt, Wallet } from 'ethers';
import { httpJson } from '../host/http-json.ts';
import { print } from '../lib/framework/terminal.ts';
import { DstackError } from '../lib/protocol/errors.ts';
import { describeNetworkError, parseNetworkError } from '../lib/protocol/network-contract.ts';
import { type Arguments, type Option, UsageError } from './command.ts';

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

/**
 * Asks the endpoint which chain it serves before anything else: ethers would go on asking a dead one for ever.
 * @throws UsageError for what is no http(s) URL, RPC_UNREACHABLE
 */
export async function provider(args: Arguments): Promise<JsonRpcProvider> {
  const url = args.text('rpc');
  if (!/^https?:\/\/[^\s]+$/.test(url) || !URL.canParse(url)) {
    throw new UsageError(`--rpc takes an http(s) URL, not ${JSON.stringify(url.slice(0, 100))}`);
  }
  const body = { jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] };
  const reply = await httpJson({ url, body, timeout: 15_000, maxBytes: 64 * 1024 }).catch((cause) => {
    // A URL may hold the operator's key to the endpoint: its host says enough.
    throw unreachable((cause as Error).message.replaceAll(url, new URL(url).host), cause);
  });
  const chainId = (reply.value as { result?: unknown } | null)?.result;
  if (typeof chainId !== 'string' || !/^0x[0-9a-f]{1,13}$/.test(chainId)) {
    throw unreachable(`${new URL(url).host} does not say which chain it serves (HTTP ${reply.status})`);
  }
  const network = Network.from(BigInt(chainId));
  return new JsonRpcProvider(url, network, {
    staticNetwork: network,
    pollingInterval: 500,
    cacheTimeout: -1,
  });
}

function unreachable(message: string, cause?: unknown): DstackError {
  return new DstackError('RPC_UNREACHABLE', `the RPC endpoint does not answer: ${message}`, { cause });
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
  try {
    return new Wallet(text.startsWith('0x') ? text : `0x${text}`, rpc);
  } catch {
    // The cause may quote the key.
    throw new DstackError('KEY_FILE', `${file} holds 32 bytes that are no secp256k1 private key`);
  }
}

/** Longer than blocks usually take to come; then its fee is too low, and waiting on is no use. */
const SETTLE_MS = 120_000;

/**
 * Resolves once the account has no transaction under way: a command that was interrupted may have sent one already, and
 * what a check reads before that is mined is about to change.
 * @throws TRANSACTION_PENDING
 */
export async function settled(wallet: Wallet): Promise<void> {
  const begin = performance.now();
  for (let said = false; ; said = true) {
    const [mined, sent] = [await wallet.getNonce('latest'), await wallet.getNonce('pending')];
    if (sent <= mined) return;
    if (performance.now() - begin > SETTLE_MS) {
      throw new DstackError(
        'TRANSACTION_PENDING',
        `${wallet.address} has an earlier transaction (nonce ${mined}) that is not mined; see to it, then run this again`,
      );
    }
    if (!said) print(`an earlier transaction of ${wallet.address} is not mined yet; waiting`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** Sends one transaction and waits for it; a revert comes back as the contract's own error, explained. */
export async function send(
  wallet: Wallet,
  transaction: { to?: string; data: string },
): Promise<TransactionReceipt> {
  try {
    const sent = await wallet.sendTransaction(transaction);
    print(`sent ${sent.hash}; waiting`);
    const receipt = await sent.wait();
    if (receipt === null || receipt.status !== 1)
      throw new DstackError('TRANSACTION_FAILED', `${sent.hash} failed`);
    print(`in block ${receipt.blockNumber}, ${receipt.gasUsed} gas`);
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
    return unreachable(error.shortMessage, error);
  }
  const { code, message } = error as NodeJS.ErrnoException;
  if (/^E[A-Z]+$/.test(code ?? '')) return unreachable(message, error);
  return error;
}

/** A time of the chain, in Unix seconds, for people; as it is when it lies beyond what a date can be. */
export function instant(seconds: bigint): string {
  return seconds > 8_640_000_000_000n ? `second ${seconds}` : new Date(Number(seconds) * 1_000).toISOString();
}
