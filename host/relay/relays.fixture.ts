/** What tests of relays begin with: a chain with a block a second, a folder, nodes and relays in this process. Whatever a test starts ends with it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { Chain, TestGuest, type TestNetwork } from '../../test/support/guest.ts';
import { RelayHost } from '../../test/support/relay.ts';
import { type Relay, runRelay } from './main.ts';
import type { RelaySettings } from './settings.ts';

const LOOPBACK = '127.0.0.1';
/** Ten ether, in wei. */
const MONEY = '0x8ac7230489e80000';

/** @param name what the folder's name begins with */
export class RelayTests {
  readonly scratch: string;
  /** What ends the things that a test has started, the last one first. */
  readonly cleanups: (() => Promise<unknown>)[] = [];
  chain!: Chain;
  #anvil!: Anvil;
  #hosts = 0;

  constructor(name: string) {
    this.scratch = mkdtempSync(join(tmpdir(), name));
    beforeAll(async () => {
      this.#anvil = await startAnvil({ args: ['--block-time', '1', '--slots-in-an-epoch', '1'] });
      this.chain = new Chain(this.#anvil.url);
    });
    afterEach(async () => {
      for (const cleanup of this.cleanups.splice(0).reverse()) await cleanup();
    });
    afterAll(async () => {
      await this.#anvil?.stop();
      rmSync(this.scratch, { recursive: true });
    });
  }

  get rpcUrl(): string {
    return this.#anvil.url;
  }

  /** A host's settings, with a funded gas key (`gas` is its account), a state directory of its own, and no peer. */
  readonly hostFor = async (
    network: TestNetwork,
    guest: TestGuest,
    more: Partial<RelaySettings> = {},
  ): Promise<RelaySettings & { gas: Address }> => {
    const stateDir = join(this.scratch, `host-${this.#hosts++}`);
    const key = newPrivateKey();
    const gasKeyFile = `${stateDir}.key`;
    writeFileSync(gasKeyFile, to0x(key), { mode: 0o600 });
    await this.chain.rpc('anvil_setBalance', addressOf(key), MONEY);
    return {
      rpcUrl: this.rpcUrl,
      chainId: network.domain.chainId,
      contract: network.address,
      gasKeyFile,
      nodeUrl: guest.url,
      siteUrl: 'https://127.0.0.1:1',
      gossipListen: { host: LOOPBACK, port: 0 },
      gossipPeers: [],
      adminListen: { host: LOOPBACK, port: 0 },
      stateDir,
      confirmations: 0,
      pollMs: 100,
      maxFeeGwei: 100,
      feeBumpSeconds: 45,
      lowBalanceEth: 0.01,
      logLevel: process.env.RELAY_TEST_LOG === undefined ? 'silent' : 'debug',
      ...more,
      gas: addressOf(key),
    };
  };

  readonly start = async ({ gas: _, ...settings }: RelaySettings & { gas?: Address }): Promise<Relay> => {
    const relay = await runRelay(settings);
    this.cleanups.push(() => relay.close());
    return relay;
  };

  /** A relay that is to be a process of its own, with money. @param name of its folder */
  readonly processOf = async (
    network: TestNetwork,
    name: string,
    nodeUrl: string,
    settings: Record<string, string> = {},
  ): Promise<RelayHost> => {
    const host = await RelayHost.create({
      ...{ rpcUrl: this.rpcUrl, nodeUrl, stateDir: join(this.scratch, name), settings },
      domain: { ...network.domain, contract: network.address },
    });
    await this.chain.rpc('anvil_setBalance', host.gasAddress, MONEY);
    this.cleanups.push(() => host.kill());
    return host;
  };

  readonly guestOf = async (
    network: TestNetwork,
    state: Parameters<typeof TestGuest.start>[1],
  ): Promise<TestGuest> => {
    const guest = await TestGuest.start(network, state);
    this.cleanups.push(() => guest.stop());
    return guest;
  };
}
