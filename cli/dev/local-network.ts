/**
 * A network for who writes an app: the real contract on a local chain, with a simulated node as its first and only one. So what the app's contract
 * checks is what it checks anywhere.
 */
import { encodeDeploy } from '../../contracts/bindings.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { keyring } from '../../guest/replicator/keyring.ts';
import { secretHolder } from '../../guest/replicator/secret.ts';
import type { JoinedForApps } from '../../guest/replicator/siblings.ts';
import { fromHex, sha256, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { type Address, type Hex, parseAddress } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import {
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeBootstrap,
} from '../../lib/protocol/network-contract.ts';
import { simulatedNode } from '../agent/node.ts';

const EPOCH = 1;

export interface LocalNetwork {
  readonly chainId: number;
  readonly contract: Address;
  readonly node: JoinedForApps;
  /** An account of the chain with ether, which signs by itself. */
  readonly owner: string;
}

/**
 * Deploys and bootstraps it.
 * @param url of the chain's endpoint, whose accounts are unlocked
 * @param secret 32 bytes, which the network's keys follow from
 */
export async function localNetwork(url: string, secret: Uint8Array): Promise<LocalNetwork> {
  const chain = new Chain(url);
  const [owner] = await chain.accounts();
  const chainId = await chain.chainId();
  const deploy = encodeDeploy({ owner: owner!, delay: 0, requestWindow: 50 });
  const contract = parseAddress((await chain.send(owner!, undefined, deploy)).contractAddress);
  const networkJson = utf8(
    JSON.stringify({
      version: 1,
      chainId,
      contract,
      confirmation: { depth: 0 },
      endpoints: [url],
      quorum: 1,
    }),
  );
  const node = simulatedNode(Uint8Array.from(secret), networkJson);
  const hex = (text: string): Hex => to0x(fromHex(text, 32));
  const { measurement, config, platform, networkKey } = node.info;
  for (const data of [
    encodeAllowMeasurement({ measurement: hex(measurement) }),
    encodeAllowConfig({ config: hex(config) }),
    encodeAllowPlatform({ platform: hex(platform) }),
  ])
    await chain.send(owner!, contract, data);
  const { number, hash } = await chain.head();
  const bootstrap = {
    networkKey,
    measurement: fromHex(measurement),
    config: fromHex(config),
    platform: fromHex(platform),
    // Of no quote: nobody audits this network.
    quoteHash: sha256(utf8('dstack dev')),
    blockNumber: number,
    blockHash: hash,
    epoch: EPOCH,
  };
  const keys = secretHolder(keyring(new Map([[EPOCH, Uint8Array.from(secret)]])), { chainId, contract });
  const { r, vs } = keys.signBootstrap(bootstrap);
  await chain.send(
    owner!,
    contract,
    encodeBootstrap({
      networkKey: parseAddress(networkKey),
      measurement: hex(measurement),
      config: hex(config),
      platform: hex(platform),
      quoteHash: to0x(bootstrap.quoteHash),
      blockNumber: BigInt(number),
      blockHash: to0x(hash),
      r,
      vs,
    }),
  );
  return { chainId, contract, node, owner: owner! };
}

/** Deploys an app's contract, whose constructor takes the network and the app. @returns its address and block */
export async function deployApp(
  url: string,
  { contract, owner }: Pick<LocalNetwork, 'contract' | 'owner'>,
  app: string,
  bytecode: string,
): Promise<{ contract: Address; block: number }> {
  const chain = new Chain(url);
  const network = contract.slice(2).toLowerCase().padStart(64, '0');
  const data = `${bytecode}${network}${Buffer.from(appId(app)).toString('hex')}`;
  const { contractAddress } = await chain.send(owner, undefined, data);
  return { contract: parseAddress(contractAddress), block: (await chain.head()).number };
}
