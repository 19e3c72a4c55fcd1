/** A network that has something to show: two relays on a chain of their own, of which one has just brought its node in. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAnvil } from '../../contracts/local-node.ts';
import { to0x, utf8 } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import {
  encodeAllowMeasurement,
  encodeRollout,
  encodeSetDelay,
} from '../../lib/protocol/network-contract.ts';
import { keccak256 } from '../../lib/protocol/secp256k1.ts';
import { bootstrappedNetwork, Chain, TestGuest } from '../../test/support/guest.ts';
import { type RelayProcess, startRelay } from '../../test/support/relay.ts';

export interface Scene {
  /** URL of the page. */
  readonly dashboard: string;
  stop(): Promise<void>;
}

const DAY = 86_400;

export async function startScene(): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-scene-'));
  const closing: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const stop = async (): Promise<void> => {
    for (const close of closing.splice(0).reverse()) await close();
  };
  try {
    const anvil = await startAnvil({ args: ['--block-time', '1', '--slots-in-an-epoch', '1'] });
    closing.push(() => anvil.stop());
    const chain = new Chain(anvil.url);
    const network = await bootstrappedNetwork(chain, 50);
    const host = async (
      state: 'joined' | 'requesting',
      peers: string[],
    ): Promise<[TestGuest, RelayProcess]> => {
      const guest = await TestGuest.start(network, state);
      closing.push(() => guest.stop());
      guest.apps = { apps: [], more: 0, rollouts: [] };
      const stateDir = join(folder, state);
      const relay = await startRelay({ chain, rpcUrl: anvil.url, network, guest, stateDir, peers });
      closing.push(() => relay.kill());
      return [guest, relay];
    };
    const [, first] = await host('joined', []);
    const [guest, second] = await host('requesting', [first.gossipUrl]);
    await until(() => guest.state === 'joined');

    const rolloutOf = async (version: number) => {
      const manifestHash = to0x(keccak256(utf8(`greeting ${version}`)));
      await network.asOwner(encodeRollout({ app: to0x(appId('greeting')), manifestHash }));
      return { manifest: manifestHash.slice(2) as Hex, at: Number((await chain.head()).time) };
    };
    const [one, two] = [await rolloutOf(1), await rolloutOf(2)];
    await network.asOwner(encodeSetDelay({ delay: DAY }));
    await network.asOwner(encodeAllowMeasurement({ measurement: to0x(keccak256(utf8('the next image'))) }));
    guest.apps = {
      apps: [{ app: 'greeting', state: 'serving', inForce: two.manifest, serving: two.manifest }],
      more: 0,
      rollouts: [one, two].map((each) => ({ app: 'greeting', ...each, outcome: 'deployed' as const })),
    };
    return { dashboard: `${second.adminUrl}/dashboard/`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 1_200) throw new Error('the node of the scene does not join');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
