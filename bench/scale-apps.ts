/**
 * What a fresh node reads to know which apps it must start, of a network that has so many: the real contract on a real chain, read as kubernethes
 * does. Every sixth of all names that it has ever had was withdrawn.
 */

import { appId, TestNetwork } from '../contracts/fixture.ts';
import { Chain } from '../contracts/local-chain.ts';
import { startAnvil } from '../contracts/local-node.ts';
import { desiredOf } from '../guest/kubernethes/apps-reader.ts';
import { type ChainClient, chainClient } from '../lib/chain/chain-client.ts';
import { networkReader } from '../lib/chain/network-reader.ts';
import { encodeRollout, encodeWithdraw } from '../lib/protocol/network-contract.ts';
import type { Row } from './growth.ts';

const SIZES = [100, 1_000];
/** Transactions in one request, and the gas of each. */
const BATCH = 200;
const GAS = '0x30d40';

export interface AppsRead {
  /** Names of apps that are live, in the contract's order, and what was read. */
  live: string[];
  listed: string[];
  calls: number;
  milliseconds: number;
}

export async function appRows(tell: (row: Row) => void): Promise<void> {
  for (const size of SIZES) {
    const { live, listed, calls, milliseconds } = await appsRead((6 * size) / 5);
    const missing = live.filter((name) => !listed.includes(name)).length;
    if (missing > 0 || listed.length !== live.length)
      throw new Error(`${missing} of ${live.length} apps are missing, ${listed.length} are listed`);
    const row = (what: string, figure: number, unit: string) =>
      tell({ what: `apps, a fresh node: ${what}`, size, figure, unit });
    row('apps that it starts', listed.length, 'apps');
    row('calls', calls, 'calls');
    row('as long as', milliseconds, 'ms');
  }
}

/** @param names that the network has ever had */
export async function appsRead(names: number): Promise<AppsRead> {
  const anvil = await startAnvil();
  try {
    const network = await TestNetwork.bootstrapped(new Chain(anvil.url));
    const all = Array.from({ length: names }, (_, n) => `app-${n}`);
    const isWithdrawn = (_name: string, nth: number) => nth % 6 === 5;
    await send(
      anvil.url,
      network,
      all.map((name) => encodeRollout({ app: appId(name), manifestHash: `0x${'ab'.repeat(32)}` })),
    );
    await send(
      anvil.url,
      network,
      all.filter(isWithdrawn).map((name) => encodeWithdraw({ app: appId(name) })),
    );
    const config = { chainId: network.domain.chainId, endpoints: [anvil.url], quorum: 1 };
    const client = chainClient({ config: { ...config, confirmation: { depth: 0 } } });
    let calls = 0;
    const chain: ChainClient = {
      ...client,
      call: (...args) => {
        calls += 1;
        return client.call(...args);
      },
    };
    const begun = performance.now();
    const apps = await networkReader(chain, network.address).apps(await client.head());
    return {
      live: all.filter((name, nth) => !isWithdrawn(name, nth)),
      listed: [...desiredOf(apps).keys()],
      calls,
      milliseconds: performance.now() - begun,
    };
  } finally {
    await anvil.stop();
  }
}

/** As the owner, in this order: the last is mined after all others. */
async function send(url: string, { owner: from, address: to, chain }: TestNetwork, calls: readonly string[]) {
  const first = Number(await chain.rpc<string>('eth_getTransactionCount', from, 'latest'));
  for (let at = 0; at < calls.length; at += BATCH) {
    const body = calls.slice(at, at + BATCH).map((data, nth) => ({
      ...{ jsonrpc: '2.0', id: nth, method: 'eth_sendTransaction' },
      params: [{ from, to, data, gas: GAS, nonce: `0x${(first + at + nth).toString(16)}` }],
    }));
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
    const refused = ((await response.json()) as { error?: { message: string } }[]).find(({ error }) => error);
    if (refused !== undefined) throw new Error(refused.error!.message);
  }
  while (Number(await chain.rpc('eth_getTransactionCount', from, 'latest')) < first + calls.length)
    await new Promise((resolve) => setTimeout(resolve, 20));
}
