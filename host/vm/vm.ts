/**
 * Starts a VM and ends it. The only place on the host that spawns QEMU.
 *
 * Everything that belongs to one VM is in its state folder: sockets, console log, and the data disk if there is to be one.
 * QEMU is tied to this process by the kernel's parent-death signal (set by setpriv, which then becomes QEMU), so that a host
 * process that is killed leaves no VM behind that still answers for the network.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { SimulatedSetting } from '../../lib/attestation/simulated/conditions.ts';
import { freePort } from '../../lib/daemon/free-port.ts';
import { qemuDataArguments, toolCommand } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { forwardVisitors } from './forwarder.ts';
import { type Image, measuredBoot, openImage, type Shape } from './image.ts';
import { inOwnNetwork, joinOwnNetwork, ownNetworkReason } from './own-network.ts';
import { type Probe, probeAccelerator } from './probe.ts';
import { type Accelerator, type PortForward, type QuoteGenerationSocket, qemuArguments } from './qemu.ts';
import { qmpCommand } from './qmp.ts';
import { startQuotingService } from './quoting.ts';
import type { FaultPlan } from './simulated-tsm/faults.ts';

export interface VmOptions {
  /** `build/image-<flavour>`. */
  readonly imageFolder: string;
  /** Holds network.json, host.json and container archives; the guest sees it read-only. */
  readonly hostVolume: string;
  /** This VM's own: created when missing. One running VM at a time. */
  readonly stateFolder: string;
  /** The host's identity as a simulated platform: one file for all VMs of a host. */
  readonly platformStateFile: string;
  /** What the simulated platform should be like. */
  readonly simulated?: SimulatedSetting;
  /** image.json's default shape when absent. Another shape has another measurement. */
  readonly shape?: Shape;
  /** Ports on 127.0.0.1; a free one is taken for each that is absent. */
  readonly ports?: {
    readonly tls?: number;
    readonly http?: number;
    readonly replicator?: number;
    /** For the store's clients outside; left out, nothing leads to them. */
    readonly store?: number | undefined;
  };
  /**
   * An address of this host at which visitors of the website are taken and passed on with their own addresses (forwarder.ts); absent:
   * visitors come by `ports.tls`, and to the guest they all look alike.
   */
  readonly visitors?: { readonly host: string; readonly port: number };
  /**
   * QEMU in a network namespace of its own, from which only these TCP ports of the host's loopback are reached, as 10.0.2.2 of the guest;
   * absent: QEMU shares the host's network, and the whole of its loopback is behind 10.0.2.2.
   */
  readonly ownNetwork?: { readonly loopbackPorts: readonly number[] };
  /** The data disk; with `createMiB` a sparse one of that size is made if there is none. Default: no disk. */
  readonly dataDisk?: { readonly path: string; readonly createMiB?: number };
  /** Found by `probeAccelerator` when absent. A production image runs on TDX only, and only a production image does. */
  readonly accelerator?: Exclude<Accelerator, 'tdx'>;
  /** On TDX: the host's quote generation service, if it is not where Intel's listens. */
  readonly quoteGeneration?: QuoteGenerationSocket;
  /** Errors that the simulated platform shows, for tests. */
  readonly faults?: FaultPlan;
  /** Lines for the log: what was chosen, and why. */
  readonly log?: (message: string) => void;
}

/** A running VM. */
export interface Vm {
  readonly pid: number;
  readonly accelerator: Accelerator;
  /** Ports on 127.0.0.1. */
  readonly ports: { readonly tls: number; readonly http: number; readonly replicator: number };
  /** What the VM's serial console prints, appended as it comes. */
  readonly consoleLog: string;
  /** The dev flavour's root shell: a Unix socket. */
  readonly shellSocket?: string;
  /** SHA-256 of the simulated platform's id, hex: what the network's owner allows. A TD's is in its quotes. */
  readonly platformId?: string;
  /** Resolves when QEMU has ended, for whatever reason, and its simulated platform is closed. */
  readonly exited: Promise<VmExit>;
  /**
   * Tells QEMU to flush the disks and quit; kills it after `graceMs` (5 s). To the guest this is a power cut, which a guest
   * that trusts no host has to survive anyway.
   */
  stop(graceMs?: number): Promise<VmExit>;
  /** Ends QEMU at once, like pulling the plug. */
  kill(): Promise<VmExit>;
}

export interface VmExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * Starts a VM; resolves once QEMU runs (the guest takes a while after that).
 * @throws DstackError IMAGE_MISSING, IMAGE_INVALID, TOOL_MISSING, TDX_UNAVAILABLE, DISK_MISSING, VM_START with what QEMU said,
 *   VM_NETWORK when it is to have a network of its own and this machine gives none.
 */
export async function startVm(options: VmOptions): Promise<Vm> {
  const log = options.log ?? (() => {});
  const image = await openImage(resolve(options.imageFolder));
  const shape = options.shape ?? image.manifest.defaultShape;
  const folder = resolve(options.stateFolder);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const consoleLog = join(folder, 'console.log');
  const platformSocket = join(folder, 'platform.sock');
  const qmpSocket = join(folder, 'qmp.sock');
  const dev = image.manifest.flavour === 'dev';
  const shellSocket = join(folder, 'shell.sock');
  await Promise.all([consoleLog, qmpSocket, shellSocket].map((file) => rm(file, { force: true })));
  if (options.dataDisk !== undefined) await ensureDisk(options.dataDisk, log);

  if (options.ownNetwork !== undefined) requireOwnNetwork();
  const probe = await chooseAccelerator(image, options.accelerator);
  log(`${probe.accelerator}: ${probe.why}`);
  const ports = {
    tls: options.ports?.tls ?? (await freePort()),
    http: options.ports?.http ?? (await freePort()),
    replicator: options.ports?.replicator ?? (await freePort()),
  };
  const store = options.ports?.store;
  const proxied = options.visitors && (await freePort());
  const forwards: PortForward[] = [
    { host: ports.tls, guest: guestPorts.tls },
    { host: ports.http, guest: guestPorts.http },
    ...(proxied === undefined ? [] : [{ host: proxied, guest: guestPorts.proxied }]),
    { host: ports.replicator, guest: guestPorts.replicator },
    ...(store === undefined ? [] : [{ host: store, guest: guestPorts.storeClients }]),
  ];

  const forwarder = options.visitors && (await forwardVisitors(options.visitors, proxied!));
  if (forwarder !== undefined) {
    const { address, port } = forwarder.address;
    log(`visitors of the website are taken at ${address}, port ${port}`);
  }

  // Before QEMU, which connects to it; and a new one for each QEMU, as a reset zeroes a machine's registers.
  const platform =
    probe.accelerator === 'tdx'
      ? undefined
      : await startQuotingService({
          socketPath: platformSocket,
          ...(await measuredBoot(image, shape)),
          ...(options.faults && { faults: options.faults }),
          platformStateFile: resolve(options.platformStateFile),
          simulated: options.simulated,
        });
  const qemu = spawnQemu(
    probe.qemu,
    qemuArguments({
      image,
      shape,
      accelerator: probe.accelerator,
      hostVolume: resolve(options.hostVolume),
      ...(options.dataDisk && { dataDisk: resolve(options.dataDisk.path) }),
      ports: forwards,
      ...(platform && { platformSocket }),
      ...(options.quoteGeneration && { quoteGeneration: options.quoteGeneration }),
      qmpSocket,
      consoleLog,
      ...(dev && { shellSocket }),
      ownNetwork: options.ownNetwork !== undefined,
    }),
    options.ownNetwork !== undefined,
  );
  const exited = ended(qemu).finally(() => {
    forwarder?.close();
    return platform?.close();
  });
  const kill = () => {
    qemu.kill('SIGKILL');
    return exited;
  };
  await started(qemu, qmpSocket, exited);
  if (options.ownNetwork !== undefined) {
    const inward = forwards.map(({ host }) => host);
    const outward = options.ownNetwork.loopbackPorts;
    const network = await joinOwnNetwork(qemu.pid!, { folder, inward, outward, log }).catch(
      async (error: unknown) => {
        await kill();
        throw error;
      },
    );
    // Also where QEMU ended while it was joined.
    void exited.then(() => network.close());
  }
  return {
    pid: qemu.pid!,
    accelerator: probe.accelerator,
    ports,
    consoleLog,
    ...(dev && { shellSocket }),
    ...(platform && { platformId: platform.platformId }),
    exited,
    kill,
    stop: async (graceMs = 5000) => {
      const timer = setTimeout(kill, graceMs);
      await qmpCommand(qmpSocket, 'quit').catch(kill);
      return await exited.finally(() => clearTimeout(timer));
    },
  };
}

/** The accelerator that was asked for, if the image leaves a choice; else the one that works. */
async function chooseAccelerator(image: Image, asked: VmOptions['accelerator']): Promise<Probe> {
  return asked === undefined || image.manifest.flavour === 'production'
    ? await probeAccelerator(image)
    : { accelerator: asked, why: 'it was asked for', qemu: 'tool root' };
}

/**
 * Spawns QEMU with these arguments; the caller ends it, if it does not end by itself.
 * @param ownNetwork whether it is to start in a network namespace of its own, which `joinOwnNetwork` joins to the machine's
 */
export function spawnQemu(qemu: Probe['qemu'], args: readonly string[], ownNetwork = false): ChildProcess {
  const tool =
    qemu === 'tool root'
      ? toolCommand('qemu-system-x86_64', [...qemuDataArguments(), ...args])
      : { command: qemu, args, env: {} };
  // Both replace themselves by QEMU: the pid is QEMU's. They are part of util-linux, which Debian and Ubuntu always have.
  const { command, args: words } = !ownNetwork
    ? { command: 'setpriv', args: ['--pdeathsig', 'KILL', '--', tool.command, ...tool.args] }
    : inOwnNetwork(tool);
  return spawn(command, words, {
    env: { ...process.env, ...tool.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}

/** @throws DstackError VM_NETWORK */
function requireOwnNetwork(): void {
  const reason = ownNetworkReason();
  if (reason === undefined) return;
  throw new DstackError(
    'VM_NETWORK',
    `the VM can't have a network of its own: ${reason}; or set DSTACK_VM_NETWORK=shared`,
  );
}

function ended(qemu: ChildProcess): Promise<VmExit> {
  return new Promise((resolve) => {
    qemu.on('exit', (code, signal) => resolve({ code, signal }));
    qemu.on('error', () => resolve({ code: null, signal: null }));
  });
}

/** Waits until QEMU's control socket is there; throws with QEMU's output if QEMU ends first. */
export async function started(
  qemu: ChildProcess,
  qmpSocket: string,
  exited: Promise<unknown>,
): Promise<void> {
  let said = '';
  qemu.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-4096);
  });
  qemu.on('error', (error) => {
    said += error.message;
  });
  let over = false;
  void exited.then(() => {
    over = true;
  });
  while (!existsSync(qmpSocket)) {
    if (over) throw new DstackError('VM_START', `QEMU did not start: ${said.trim() || 'it said nothing'}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function ensureDisk(
  disk: { readonly path: string; readonly createMiB?: number },
  log: (message: string) => void,
): Promise<void> {
  if (existsSync(disk.path)) return;
  if (disk.createMiB === undefined) {
    throw new DstackError(
      'DISK_MISSING',
      `there is no disk ${disk.path}, and createMiB does not ask for one`,
    );
  }
  await emptyDisk(disk.path, disk.createMiB);
  log(`${disk.path}: a new, empty disk of ${disk.createMiB} MiB`);
}

/** A new, sparse disk. */
export async function emptyDisk(path: string, mebibytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  await file.truncate(mebibytes * 2 ** 20);
  await file.close();
}

/** Characters after which output without a newline is cut. */
const MAX_LINE = 500;

/** The last lines of a console log, for error messages. */
export async function consoleTail(vm: Pick<Vm, 'consoleLog'>, lines = 30): Promise<readonly string[]> {
  const text = existsSync(vm.consoleLog) ? await readFile(vm.consoleLog, 'utf8') : '';
  return text
    .trimEnd()
    .split(/\r?\n/)
    .slice(-lines)
    .map((line) => line.slice(0, MAX_LINE));
}
