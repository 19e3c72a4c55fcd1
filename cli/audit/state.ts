/**
 * The contract's state at the audited block, as far as a history is held against it: the root of its whole storage, proven
 * under the block, and what the contract's views say of what is still to come.
 */
import { encodeRlp, keccak256 } from 'ethers';
import { type Static, Type } from 'typebox';
import type { ChainClient, Head } from '../../lib/chain/chain-client.ts';
import { rpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { appList } from '../../lib/protocol/app-list.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import {
  type AppView,
  decodeConfigAllowedFrom,
  decodeDeniedFmspcs,
  decodeMeasurementAllowedFrom,
  decodeNextDelay,
  decodeNextTcbPolicy,
  decodePlatformAllowedFrom,
  decodePlatformsOpenFrom,
  encodeConfigAllowedFrom,
  encodeDeniedFmspcs,
  encodeMeasurementAllowedFrom,
  encodeNextDelay,
  encodeNextTcbPolicy,
  encodePlatformAllowedFrom,
  encodePlatformsOpenFrom,
  type FmspcView,
  type NextDelayResult,
  type NextTcbPolicyResult,
} from '../../lib/protocol/network-contract.ts';
import { Word0x } from '../../lib/protocol/schema.ts';
import { OFTEN_ZERO } from './storage.ts';
import { hasZeroLeaf, provenStorageRoot } from './trie.ts';

/** The storage's root; `under` says what it was proven under: the block's hash itself, or a state root that all endpoints name. */
export type StateProof =
  | {
      readonly proven: true;
      readonly storageRoot: string;
      readonly under: 'block hash' | "endpoints' word";
      /** False for a chain whose tries are provably not like Ethereum's: then the root means nothing. */
      readonly canonical: boolean;
    }
  | { readonly proven: false; readonly reason: string };

const Bytes = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 64 * 1024 });
const Hex = Type.String({ pattern: '^0x[0-9a-f]*$', maxLength: 1024 });
/** Ethereum's header, in the order of its RLP (yellow paper 4.4; EIP-1559, 4895, 4844, 4788, 7685). */
const FIELDS = [
  'parentHash',
  'sha3Uncles',
  'miner',
  'stateRoot',
  'transactionsRoot',
  'receiptsRoot',
  'logsBloom',
  'difficulty',
  'number',
  'gasLimit',
  'gasUsed',
  'timestamp',
  'extraData',
  'mixHash',
  'nonce',
  'baseFeePerGas',
  'withdrawalsRoot',
  'blobGasUsed',
  'excessBlobGas',
  'parentBeaconBlockRoot',
  'requestsHash',
] as const;
/** The fields that are numbers: RLP allows no leading zeros in them. */
const NUMBERS: readonly string[] = [
  'difficulty',
  'number',
  'gasLimit',
  'gasUsed',
  'timestamp',
  'baseFeePerGas',
  'blobGasUsed',
  'excessBlobGas',
];
const HeaderSchema = Type.Object({
  hash: Word0x,
  stateRoot: Word0x,
  ...Object.fromEntries(
    FIELDS.filter((field) => field !== 'stateRoot').map((field) => [field, Type.Optional(Hex)]),
  ),
});
const Nodes = Type.Array(Bytes, { maxItems: 128 });
const ProofSchema = Type.Object({
  accountProof: Nodes,
  storageProof: Type.Array(Type.Object({ proof: Nodes }), { maxItems: OFTEN_ZERO.length }),
});

/**
 * Asks for a proof and checks it: if it does not lead from the block's state root to the account, the next endpoint is asked.
 * So one endpoint that gives proofs is enough, whatever the others say.
 * @throws CHAIN_DISAGREES, RPC_* when the endpoints don't name one state root
 */
export async function readStateProof(
  endpoints: readonly string[],
  contract: Address,
  head: Head,
): Promise<StateProof> {
  const all = endpoints.map((url) => rpcEndpoint(url, { timeout: 30_000 }));
  const headers = await Promise.all(
    all.map((rpc) =>
      rpc.call(HeaderSchema, 'eth_getBlockByNumber', [`0x${head.number.toString(16)}`, false]),
    ),
  );
  const [header] = headers;
  const other = headers.some(({ hash, stateRoot }) => hash !== head.hash || stateRoot !== header?.stateRoot);
  if (header === undefined || other) {
    throw new DstackError('CHAIN_DISAGREES', `the endpoints name different states of block ${head.number}`);
  }
  const reasons: string[] = [];
  for (const rpc of all) {
    try {
      const at = { blockHash: head.hash };
      const proof = await rpc.call(ProofSchema, 'eth_getProof', [contract, OFTEN_ZERO, at]);
      const storageRoot = provenStorageRoot(header.stateRoot, contract, proof.accountProof);
      return {
        proven: true,
        storageRoot,
        canonical: !proof.storageProof.some(({ proof: nodes }, at) =>
          hasZeroLeaf(storageRoot, OFTEN_ZERO[at]!, nodes),
        ),
        under: headerHash(header) === head.hash ? 'block hash' : "endpoints' word",
      };
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      reasons.push(error.message);
    }
  }
  return { proven: false, reason: reasons.join('; ') };
}

/** The hash that a header of Ethereum's form has; other chains have headers of other forms. */
function headerHash(header: Static<typeof HeaderSchema>): string {
  const values: Record<string, string | undefined> = { ...header };
  const items = FIELDS.map((field) => {
    const value = values[field];
    return value !== undefined && NUMBERS.includes(field) ? minimal(value) : value;
  }).filter((value) => value !== undefined);
  try {
    return keccak256(encodeRlp(items));
  } catch {
    return 'of another form';
  }
}

function minimal(hex: string): string {
  const digits = hex.slice(2).replace(/^0+/, '');
  return `0x${digits.length % 2 === 0 ? digits : `0${digits}`}`;
}

/** What the contract's views say was set last, whether in force or pending. */
export interface Upcoming {
  readonly delay: NextDelayResult;
  readonly tcbPolicy: NextTcbPolicyResult;
  /** Unix seconds; 0 when they are closed. */
  readonly platformsOpenFrom: bigint;
  readonly fmspcs: readonly FmspcView[];
  /** Those that have a manifest, pending or in force. */
  readonly apps: readonly AppView[];
  /** Since or from when a value may join, as `measurementAllowedFrom` and the like say it. */
  allowedFrom(kind: 'measurement' | 'config' | 'platform', value: string): Promise<bigint>;
}

export async function readUpcoming(chain: ChainClient, contract: Address, head: Head): Promise<Upcoming> {
  const call = (data: string) => chain.call(contract, data, head);
  return {
    delay: decodeNextDelay(await call(encodeNextDelay())),
    tcbPolicy: decodeNextTcbPolicy(await call(encodeNextTcbPolicy())),
    platformsOpenFrom: decodePlatformsOpenFrom(await call(encodePlatformsOpenFrom())),
    fmspcs: decodeDeniedFmspcs(await call(encodeDeniedFmspcs())),
    apps: await appList(call),
    async allowedFrom(kind, value) {
      if (kind === 'measurement') {
        return decodeMeasurementAllowedFrom(await call(encodeMeasurementAllowedFrom({ measurement: value })));
      }
      if (kind === 'config') {
        return decodeConfigAllowedFrom(await call(encodeConfigAllowedFrom({ config: value })));
      }
      return decodePlatformAllowedFrom(await call(encodePlatformAllowedFrom({ platform: value })));
    },
  };
}
