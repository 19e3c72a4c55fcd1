/**
 * Chains that people know by name, and how each begins. A signature names the chain on which it holds by the chain id alone
 * (EIP-155), so one made on a private chain that calls itself Sepolia holds on Sepolia too, where anyone can send it: the same
 * account with the same nonce even creates the same contract. A chain under a public chain's id must therefore begin with that
 * chain's first block.
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
  10: {
    name: 'OP Mainnet',
    firstBlock: '0x7ca38a1916c42007829c55e69d3e9a73265554b586a499015373241b8a3fa48b',
  },
  56: {
    name: 'BNB Smart Chain',
    firstBlock: '0x0d21840abff46b96c84b2ac9e10e4f5cdaeb5693cb665db62a2f3b02d2d57b5b',
  },
  97: {
    name: "BNB Smart Chain's testnet",
    firstBlock: '0x6d3c66c5357ec91d5c43af47e234a939b22557cbb552dc45bebbceeed90fbe34',
  },
  100: {
    name: 'Gnosis',
    firstBlock: '0x4f1dd23188aab3a76b463e4af801b52b1248ef073c648cbdc4c9333d3da79756',
  },
  137: {
    name: 'Polygon',
    firstBlock: '0xa9c28ce2141b56c474f1dc504bee9b01eb1bd7d1a507580d5519d4437a97de1b',
  },
  8453: {
    name: 'Base',
    firstBlock: '0xf712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd',
  },
  17000: {
    name: 'Holesky',
    firstBlock: '0xb5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4',
  },
  42161: {
    name: 'Arbitrum One',
    firstBlock: '0x7ee576b35482195fc49205cec9af72ce14f003b9ae69f6ba0faef4514be8b442',
  },
  84532: {
    name: 'Base Sepolia',
    firstBlock: '0x0dcc9e089e30b90ddfc55be9a37dd15bc551aeee999d2e2b51414c54eaf934e4',
  },
  560048: {
    name: 'Hoodi',
    firstBlock: '0xbbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b',
  },
  11155111: {
    name: 'Sepolia',
    firstBlock: '0x25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9',
  },
  11155420: {
    name: 'OP Sepolia',
    firstBlock: '0x102de6ffb001480cc9b8b548fd05c34cd4f46ae4aa91759393db90ea0409887d',
  },
  1337: { name: 'a private development chain' },
  31337: { name: 'a private development chain' },
};

/** Name and id, to be shown. */
export function chainName(chainId: number): string {
  return `${known[chainId]?.name ?? 'a chain without a name here'} (chain id ${chainId})`;
}

/** Chains of this id for which `requireFirstBlock` can say nothing, so that the owner has to look; undefined for the others. */
export function unknownChain(chainId: number, firstBlock: string): string | undefined {
  if (known[chainId] !== undefined) return undefined;
  return `begins with block ${firstBlock}; what is signed holds on every chain of this id, and how the public one begins is not known here`;
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
