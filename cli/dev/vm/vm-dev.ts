/**
 * `dstack dev --vm`: the app as it will run, its enclave in a container of a VM that a network's contract rolled it out to, on a local chain. A change is
 * a new rollout.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Chain } from '../../../contracts/local-chain.ts';
import { startAnvil } from '../../../contracts/local-node.ts';
import { print } from '../../../lib/daemon/terminal.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { parseAddress } from '../../../lib/protocol/hex.ts';
import { nodePaths } from '../../../lib/protocol/onboarding-messages.ts';
import { repository } from '../../repository.ts';
import { assertReadable } from '../app-folder.ts';
import { AppProcesses } from '../app-processes.ts';
import { differing, onChange, sources } from '../changes.ts';
import { compileApp } from '../compile.ts';
import { Guard } from '../guard.ts';
import { deployApp } from '../local-network.ts';
import { anvilOf } from '../tools.ts';
import { run, type Service } from './commands.ts';
import { buildContainer, findBuilder } from './container.ts';
import { key, until, type VmNetwork, vmNetwork } from './network.ts';
import { isServing } from './serving.ts';

/** In the container: what hosts ask, and what visitors do. */
const [REQUESTS_PORT, VISITORS_PORT] = ['8080', '8081'] as const;
/** Time and `finalized` go on without transactions. */
const BLOCKS = ['--block-time', '1', '--slots-in-an-epoch', '1'] as const;
const MAY_ASK = ['attest', 'key', 'chain', 'info', 'sign', 'quote'] as const;

export interface VmDevOptions {
  readonly folder: string;
  readonly app: string;
  /** A folder with image.json; undefined for the one that this repository has built. */
  readonly image: string | undefined;
  /** As `docker save` writes it, in place of one that is built from the app's Dockerfile. */
  readonly archive: string | undefined;
  readonly stopped: AbortSignal;
}

export interface VmDev {
  readonly failed: Promise<DstackError>;
  stop(): Promise<void>;
}

/** @throws DEV_VM_IMAGE, DEV_VM_BUILDER, DEV_VM_BUILD, DEV_VM_STEP, SOLC_FAILED, DEV_SOURCE, INTERRUPTED */
export async function startVmDev(options: VmDevOptions): Promise<VmDev> {
  const { folder, app, stopped } = options;
  const image = assertImage(options.image);
  const archiveOf = await archiver(options);
  assertReadable(folder);
  const program = anvilOf(folder);
  const state = mkdtempSync(join(tmpdir(), 'dstack-dev-'));
  const guard = new Guard(state);
  const services: Service[] = [];
  const processes = new AppProcesses(folder, guard);
  const open: { anvil?: Awaited<ReturnType<typeof startAnvil>>; close?: () => void } = {};

  async function stop(): Promise<void> {
    open.close?.();
    await processes.stop();
    // The relay before the VM, and the chain that both read last.
    for (const service of services.reverse()) await service.stop();
    await open.anvil?.stop();
    guard.close();
    rmSync(state, { recursive: true, force: true });
  }

  try {
    mkdirSync(join(state, 'archives'));
    const known = sources(folder);
    const archive = await archiveOf(join(state, 'archives/app.tar'));
    const anvil = await startAnvil({ program, args: BLOCKS });
    open.anvil = anvil;
    guard.add(anvil.pid);
    print(`chain        ${anvil.url}`);
    const started = (service: Service): void => {
      services.push(service);
      guard.add(service.pid);
    };
    const network = await vmNetwork({ state, url: anvil.url, image, say: print, stopped, started });
    const rolledOut = { folder, app, url: anvil.url, network, stopped };
    let contract = await deploy(rolledOut);
    let manifest = await rollOut({ ...rolledOut, contract: contract.contract, archive, known });
    const gasKey = await key(anvil.url, join(state, 'gas.key'));
    let runs = 0;
    const startHost = () => {
      runs += 1;
      const place = { GAS_KEY_FILE: gasKey, HOST_DATA: join(state, `host-${runs}`) };
      return processes.restart('host', { ...process.env, ...told(rolledOut, contract), ...place });
    };
    await startHost();
    printDoors(network, app);
    const rollOutAgain = async (changed: ReadonlySet<string>) => {
      print(`changed: ${[...changed].join(', ')}`);
      const now = sources(folder);
      assertReadable(folder);
      if (changed.has('contracts')) contract = await deploy(rolledOut);
      if (concernsVm(changed)) {
        const again = await archiveOf(join(state, 'archives/app.tar'));
        const next = { ...rolledOut, contract: contract.contract, archive: again, known: now };
        manifest = await rollOut(next, manifest);
      }
      await startHost();
    };
    const unlessStopped = (error: unknown) => {
      if (!stopped.aborted) throw error;
    };
    open.close = onChange(folder, (changed) => rollOutAgain(changed).catch(unlessStopped), known);
    return { stop, failed: network.ended };
  } catch (error) {
    await stop();
    if (stopped.aborted) throw new DstackError('INTERRUPTED', 'stopped before the app ran');
    throw error;
  }
}

/** @throws DEV_VM_IMAGE */
export function assertImage(given: string | undefined): string {
  const image = given ?? join(repository, 'build/image-sim');
  if (existsSync(join(image, 'image.json')) && existsSync(join(repository, 'cli/main.ts'))) return image;
  const why = existsSync(join(repository, 'cli/main.ts'))
    ? `there is no image in ${image}: npm run demo -- --set-up-only builds one, and --image names the folder of another`
    : "a VM needs what the package doesn't have: an image and QEMU. In a clone of Dstack, npm run demo -- --set-up-only gets both, and npx dstack dev --vm --dir FOLDER is for this app";
  throw new DstackError('DEV_VM_IMAGE', why);
}

async function archiver({
  folder,
  app,
  archive,
  stopped,
}: VmDevOptions): Promise<(file: string) => Promise<string>> {
  if (archive !== undefined) {
    if (!existsSync(archive)) throw new DstackError('DEV_VM_BUILD', `there is no archive ${archive}`);
    return async () => archive;
  }
  if (!existsSync(join(folder, 'Dockerfile')))
    throw new DstackError(
      'DEV_VM_BUILD',
      `${folder} has no Dockerfile, which says what the enclave's container is`,
    );
  const builder = await findBuilder();
  return async (file) => {
    print(`container    is built by ${builder.name}`);
    await buildContainer(builder, { folder, app, file, stopped });
    return file;
  };
}

interface Place {
  readonly folder: string;
  readonly app: string;
  readonly url: string;
  readonly network: VmNetwork;
  readonly stopped: AbortSignal;
}
type Deployed = Awaited<ReturnType<typeof deployApp>>;

async function deploy({ folder, app, url, network }: Place): Promise<Deployed> {
  const { bytecode } = compileApp(join(folder, 'contracts'), 'App.sol');
  const [owner] = await new Chain(url).accounts();
  const deployed = await deployApp(
    url,
    { contract: parseAddress(network.contract), owner: owner! },
    app,
    bytecode,
  );
  print(`contract     ${deployed.contract}`);
  return deployed;
}

/** The host runs beside the VM. @param changed folders */
const concernsVm = (changed: ReadonlySet<string>): boolean => [...changed].some((name) => name !== 'host');

interface Rollout extends Place {
  readonly contract: string;
  readonly archive: string;
  /** The app's sources, as they are in the archive. */
  readonly known: ReturnType<typeof sources>;
}

/**
 * Packs and rolls it out, if it is not what runs.
 *
 * @param running the manifest that runs
 * @returns its manifest, once the node says that it serves, or the sources have changed again: what does not serve may have been mended
 */
async function rollOut(
  { folder, app, network, stopped, contract, archive, known }: Rollout,
  running?: string,
): Promise<string> {
  const environment = {
    CHAIN_ID: String(network.chainId),
    APP_CONTRACT: contract,
    ENCLAVE_PORT: REQUESTS_PORT,
    VISITORS_PORT,
    ENCLAVE_DATA: '/mnt/encrypted_data',
  };
  const packed = await run(
    network.owner,
    stopped,
    ...[
      'app',
      'pack',
      app,
      archive,
      '--out',
      network.volume,
      '--requests',
      REQUESTS_PORT,
      '--port',
      VISITORS_PORT,
    ],
    ...MAY_ASK.flatMap((word) => ['--api', word]),
    ...['--set', 'data=rw', '--set', 'memoryMiB=256'],
    ...Object.entries(environment).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
  );
  const manifest = packed.manifest as string;
  if (manifest === running) print('the container is as it was, and stays; the host starts again');
  else {
    await run(network.owner, stopped, 'app', 'rollout', app, manifest, '--yes');
    print(`rolled out   ${manifest}; the VM takes and starts it`);
  }
  const told = new Set<string>();
  await until(stopped, network.ended, async () =>
    concernsVm(differing(known, sources(folder)))
      ? true
      : isServing(network.nodeUrl, { app, manifest, told }),
  );
  return manifest;
}

const requestsOf = (network: VmNetwork, app: string): string =>
  `${network.nodeUrl}${nodePaths.appRequest}${app}/request`;

/** What the author's host is told. */
function told({ app, url, network }: Place, { contract, block }: Deployed): NodeJS.ProcessEnv {
  return {
    CHAIN_ID: String(network.chainId),
    APP_CONTRACT: contract,
    RPC_URL: url,
    ENCLAVE_URL: requestsOf(network, app),
    START_BLOCK: String(block),
    POLL_MS: '500',
  };
}

function printDoors(network: VmNetwork, app: string): void {
  print(
    '',
    `hosts ask    ${requestsOf(network, app)}`,
    `visitors ask ${network.siteUrl}/ (its certificate is self-signed)`,
  );
}
