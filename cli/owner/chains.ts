/**
 * Chains that people know by name, and how each begins. A signature says by its chain id alone where it holds (EIP-155), so one
 * that was made on a private chain that calls itself Sepolia holds on Sepolia, where anyone can send it: the same account with
 * the same nonce even makes the same contract. What a public chain's id is used for has to begin as that chain does.
 */
import { DstackError } from '../../lib/protocol/errors.ts';

interface KnownChain {
  readonly name: string;
  /** Hash of block 0, as in the clients' own sources; absent for chains that anyone makes for themselves. */
  readonly firstBlock?: string;
}

const known: Readonly<Record<number, KnownChain>> = {
  1: {
    name: 'Ethereum',
    firstBlock: '0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3',
  },
  17000: {
    name: 'Holesky',
    firstBlock: '0xb5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4',
  },
  560048: {
    name: 'Hoodi',
    firstBlock: '0xbbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b',
  },
  11155111: {
    name: 'Sepolia',
    firstBlock: '0x25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9',
  },
  1337: { name: 'a private development chain' },
  31337: { name: 'a private development chain' },
};

/** For people: name and id. */
export function chainName(chainId: number): string {
  return `${known[chainId]?.name ?? 'a chain without a name here'} (chain id ${chainId})`;
}

/** @throws CHAIN_OTHER_GENESIS */
export function requireFirstBlock(chainId: number, found: string, endpoint: string): void {
  const expected = known[chainId]?.firstBlock;
  if (expected === undefined || expected === found) return;
  throw new DstackError(
    'CHAIN_OTHER_GENESIS',
    `${endpoint} says that it serves ${chainName(chainId)}, but that chain begins with block ${expected}, this one with ${found}. What is signed for it would hold there too: give a chain of your own another id`,
  );
}
