/** The operator's own connection to the chain: an RPC endpoint, a key from a file, and transactions that report. */
import { JsonRpcProvider, Network } from 'ethers';
import { httpJson } from '../host/http-json.ts';
import { DstackError } from '../lib/protocol/errors.ts';
import { type Arguments, UsageError } from './command.ts';

/**
 * Asks the endpoint which chain it serves before anything else: ethers would keep asking a dead one for ever.
 * @throws UsageError for anything but an http(s) URL; RPC_UNREACHABLE
 */
export async function provider(args: Arguments): Promise<JsonRpcProvider> {
  const url = args.text('rpc');
  if (!/^https?:\/\/[^\s]+$/.test(url) || !URL.canParse(url)) {
    throw new UsageError(`--rpc takes an http(s) URL, not ${JSON.stringify(url.slice(0, 100))}`);
  }
  const body = { jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] };
  const reply = await httpJson({ url, body, timeout: 15_000, maxBytes: 64 * 1024 }).catch((cause) => {
    // A URL may contain the operator's key to the endpoint, so only its host is shown.
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
