/** The steps that create a network, each as its operator or owner would do it. Shared with the VM tests. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { $ } from 'zx';
import type { DemoHost, DemoNetwork } from './host.ts';
import { dstack, repository, startDaemon } from './processes.ts';
import { say, waitFor } from './steps.ts';

/** anvil's well-known accounts, which are worth nothing anywhere. */
const ownerKey = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
/** Who pays for each host. */
export const relayKeys = [
  '59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  '5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
  '7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6',
] as const;

export const image = join(repository, 'build/image-sim');

/** The owner's settings for `npx dstack`. */
export function owner(
  network: Pick<DemoNetwork, 'rpcUrl' | 'folder'> & Partial<DemoNetwork>,
): Record<string, string> {
  return {
    DSTACK_RPC_URL: network.rpcUrl,
    DSTACK_OWNER_KEY_FILE: join(network.folder, 'owner.key'),
    ...(network.contract === undefined ? {} : { DSTACK_CONTRACT: network.contract }),
    ...(network.chainId === undefined ? {} : { DSTACK_CHAIN_ID: String(network.chainId) }),
  };
}

/** One command of the owner, confirmed in advance because there is no terminal to ask on. */
export function asOwner(network: DemoNetwork, ...args: readonly string[]): Promise<string> {
  return dstack(owner(network), ...args, '--yes');
}

/** @returns the archive of each version */
export async function buildApps(): Promise<string[]> {
  const archives: string[] = [];
  for (const version of ['1', '2'])
    archives.push(await buildApp(`greeting-${version}`, '--version', version));
  return archives;
}

/** One archive, by app-example/build.ts with these options; making buildah's root needs root. */
export async function buildApp(name: string, ...options: string[]): Promise<string> {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo'];
  const archive = join(repository, `build/${name}.tar`);
  const command = [...sudo, process.execPath, 'app-example/build.ts', ...options, '--out', archive];
  await $({ cwd: repository, quiet: true })`${command}`;
  return archive;
}

/** A chain with this id and the contract, in a folder that is emptied first. */
export async function deployNetwork(folder: string, chainId = 31337): Promise<DemoNetwork> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'owner.key'), ownerKey, { mode: 0o600 });
  const anvil = join(repository, 'node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil');
  // Blocks are mined even without transactions, or time, delays and `finalized` would stand still.
  const chain = startDaemon('chain', folder, [
    anvil,
    '--port',
    '0',
    '--chain-id',
    String(chainId),
    '--block-time',
    '1',
    '--slots-in-an-epoch',
    '1',
    // Otherwise anvil writes old states into the home folder.
    '--prune-history',
    '1000',
  ]);
  const address = await waitFor(
    'the chain',
    async () => /Listening on (127\.0\.0\.1:\d+)/.exec(chain.text())?.[1],
    300,
  );
  const rpcUrl = `http://${address}`;
  const deployed = await dstack(
    owner({ rpcUrl, folder, chainId }),
    'network',
    'deploy',
    '--delay',
    '0',
    // Blocks, of a second: more than a slow machine takes from a request to its answer.
    '--request-window',
    '900',
    '--yes',
  );
  const contract = /^contract (0x[0-9a-fA-F]{40})$/m.exec(deployed)?.[1];
  if (contract === undefined) throw new Error(`no contract address in: ${deployed}`);
  say(`contract ${contract} on ${rpcUrl}`);
  return { folder, rpcUrl, chainId, contract };
}

export interface NetworkOptions {
  /** A file. */
  readonly site?: string | undefined;
  readonly rawQuotes?: string;
  /** MiB; nodes have a store then. */
  readonly storeQuota?: number;
  /** The app that maintains the store. */
  readonly storeOwner?: string;
  /** `APP=PREFIX` of keys that everyone may read. */
  readonly storePublic?: string;
  /** A file that says which clients outside reach it. */
  readonly storeClients?: string;
  readonly flavour?: 'sim' | 'dev';
}

/**
 * @param site the website's part of network.json; without it, its certificate is self-signed
 * @returns the manifest hash of each version
 */
export async function prepareNetwork(
  network: DemoNetwork,
  a: DemoHost,
  archives: readonly string[],
  options: NetworkOptions = {},
): Promise<string[]> {
  await allowConfig(network, a, options);
  const built = join(repository, `build/image-${options.flavour ?? 'sim'}/image.json`);
  await asOwner(network, 'network', 'allow', 'measurement', built);
  const manifests: string[] = [];
  for (const archive of archives) manifests.push(await packApp(network, a, archive));
  if (manifests.length > 0) await asOwner(network, 'app', 'rollout', 'greeting', manifests[0]!);
  return manifests;
}

/** Writes a network.json, which the owner allows, into the network's folder and the host's volume. */
export async function allowConfig(
  network: DemoNetwork,
  host: DemoHost,
  {
    site,
    rawQuotes,
    storeQuota,
    storeOwner,
    storePublic,
    storeClients,
  }: Omit<NetworkOptions, 'flavour'> = {},
): Promise<void> {
  const networkJson = join(network.folder, 'network.json');
  const env = owner(network);
  // The host's address in QEMU's user network, as the guest sees it.
  const endpoint = network.rpcUrl.replace('127.0.0.1', '10.0.2.2');
  await dstack(
    env,
    'network',
    'config',
    '--endpoint',
    endpoint,
    '--depth',
    '1',
    '--minimum-nodes',
    '1',
    '--out',
    networkJson,
    ...(site === undefined ? [] : ['--site', site]),
    ...(rawQuotes === undefined ? [] : ['--raw-quotes', rawQuotes]),
    ...(storeQuota === undefined ? [] : ['--store-quota', String(storeQuota)]),
    ...(storeOwner === undefined ? [] : ['--store-owner', storeOwner]),
    ...(storePublic === undefined ? [] : ['--store-public', storePublic]),
    ...(storeClients === undefined ? [] : ['--store-clients', storeClients]),
  );
  shareFile(networkJson, host.volume);
  await asOwner(network, 'network', 'allow', 'config', networkJson);
}

/** Puts an archive of the app and its manifest, with these fields, into the host's volume. @returns the manifest's hash */
export async function packApp(
  network: DemoNetwork,
  host: DemoHost,
  archive: string,
  ...fields: readonly string[]
): Promise<string> {
  const options = ['--port', '8080', ...fields.flatMap((field) => ['--set', field])];
  return packAs('greeting', network, host, archive, ...options);
}

/** The same of any app, with these options of `app pack`. */
export async function packAs(
  app: string,
  network: DemoNetwork,
  host: DemoHost,
  archive: string,
  ...options: readonly string[]
): Promise<string> {
  const packed = await dstack(owner(network), 'app', 'pack', app, archive, ...options, '--out', host.volume);
  return /^manifest (0x[0-9a-f]{64})$/m.exec(packed)![1]!;
}

/** @returns seconds from power-on to joined */
export async function bootstrapFirst(
  network: DemoNetwork,
  a: DemoHost,
  flavour: 'sim' | 'dev' = 'sim',
): Promise<number> {
  await a.powerOn('bootstrap', { createDisk: true });
  await asOwner(network, 'network', 'allow', 'platform', a.platform);
  await a.startRelay();
  const file = await waitFor(
    'the bootstrap package of A',
    async () => {
      if (!existsSync(a.archive)) return undefined;
      return readdirSync(a.archive).find((name) => /^bootstrap-0x[0-9a-f]{40}\.json$/.test(name));
    },
    900,
    () => a.waitingFor(),
    () => a.alive(),
  );
  const output = await asOwner(network, 'network', 'bootstrap', join(a.archive, file), '--flavour', flavour);
  for (const line of output.trim().split('\n')) say(`    ${line}`);
  return a.joined();
}

/** The apps' files, from one host to another. */
export function shareApps(from: DemoHost, to: DemoHost): void {
  for (const folderName of ['manifests', 'archives', 'secrets']) {
    if (!existsSync(join(from.volume, folderName))) continue;
    for (const name of readdirSync(join(from.volume, folderName)))
      shareFile(join(from.volume, folderName, name), join(to.volume, folderName));
  }
}

/** @returns seconds from power-on to joined */
export async function joinSecond(network: DemoNetwork, a: DemoHost, b: DemoHost): Promise<number> {
  shareApps(a, b);
  shareFile(join(network.folder, 'network.json'), b.volume);
  await b.powerOn('join', { createDisk: true });
  await b.startRelay();
  return b.joined();
}

/** A copy that a VM's daemons may read: the host's own modes are what they see. */
export function shareFile(file: string, into: string): void {
  mkdirSync(into, { recursive: true });
  const target = join(into, file.split('/').at(-1)!);
  copyFileSync(file, target);
  chmodSync(target, 0o644);
}
