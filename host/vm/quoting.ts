/**
 * The simulated platform: for one QEMU process, what the CPU and its quoting enclave are on a TDX host. The guest sees it as the
 * files that Linux shows on TDX (simulated-tsm/), by 9P.
 *
 * State: RTMR3 exists in this service alone and starts at zero, so a new service has to be started for each QEMU process,
 * as resetting a machine resets its registers. The other registers are as computed by whoever started QEMU, from the very
 * files that it boots. Only the platform's PPID is durable, in `platformStateFile`: one host, one platform.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { ImageRegisters } from '../../lib/attestation/registers/measurement.ts';
import { extendRegister, requireRegisterLength, zeroRegister } from '../../lib/attestation/registers/rtmr.ts';
import { type SimulatedSetting, simulatedPlatform } from '../../lib/attestation/simulated/conditions.ts';
import { PPID_BYTES, type SimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { FaultPlan } from './simulated-tsm/faults.ts';
import { simulatedFiles } from './simulated-tsm/files.ts';
import type { Machine } from './simulated-tsm/machine.ts';
import { serveTree } from './simulated-tsm/server.ts';

export interface QuotingOptions {
  /** Unix socket to listen on; QEMU connects to it (`-chardev socket,path=…,server=off`). Mode 0600. */
  readonly socketPath: string;
  /** What the VM boots, by `simulatedRegisters`. */
  readonly registers: ImageRegisters;
  /** The firmware's event log that leads to these registers; without it the guest finds none. */
  readonly firmwareLog?: Uint8Array;
  /** Errors to inject, for tests. */
  readonly faults?: FaultPlan;
  /** Keeps the host's PPID; created with mode 0600 when missing. */
  readonly platformStateFile: string;
  /** What the platform should be like, to see how a network reacts. */
  readonly simulated?: SimulatedSetting | undefined;
}

export interface QuotingService {
  /** SHA-256 of the PPID, hex: what the network's owner allows. */
  readonly platformId: string;
  /** Ends all connections and removes the socket. */
  close(): Promise<void>;
}

/**
 * Starts the service; resolves once it listens.
 * @throws DstackError PLATFORM_STATE when the state file is not valid, REGISTER_LENGTH when a register is not 48 bytes.
 */
export async function startQuotingService(options: QuotingOptions): Promise<QuotingService> {
  const ppid = await readOrCreatePpid(options.platformStateFile);
  const platform = simulatedPlatform(ppid, options.simulated);
  const machine = createMachine(platform, options.registers, options.firmwareLog);
  const files = simulatedFiles(machine, options.faults);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // A guest that goes away is not an error; serveTree() ends by itself.
    socket.on('error', () => socket.destroy());
    void serveTree(files, socket).catch(() => socket.destroy());
  });
  server.maxConnections = 8;
  await mkdir(dirname(options.socketPath), { recursive: true, mode: 0o700 });
  await rm(options.socketPath, { force: true });
  server.listen(options.socketPath);
  await once(server, 'listening');
  await chmod(options.socketPath, 0o600);

  return {
    platformId: toHex(platform.platformId),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}

/**
 * The id of this host's simulated platform, 64 hex digits, before any VM runs; made if there is none yet.
 * @throws DstackError PLATFORM_STATE
 */
export async function simulatedPlatformId(platformStateFile: string): Promise<Hex> {
  const ppid = await readOrCreatePpid(platformStateFile);
  return toHex(simulatedPlatform(ppid).platformId);
}

/** The registers of one machine. */
function createMachine(
  platform: SimulatedPlatform,
  image: ImageRegisters,
  firmwareLog: Uint8Array | undefined,
): Machine {
  let registers = { ...image, rtmr3: zeroRegister() };
  for (const [name, value] of Object.entries(registers)) requireRegisterLength(name, value);
  return {
    firmwareLog,
    registers: () => registers,
    extend(index, digest) {
      const name = `rtmr${index}` as const;
      registers = { ...registers, [name]: extendRegister(registers[name], digest) };
    },
    quote: (reportData) => platform.signQuote({ registers, reportData }),
  };
}

/** The PPID of this host. Two services that start at once agree: the first link wins. */
async function readOrCreatePpid(path: string): Promise<Uint8Array> {
  const existing = await readState(path);
  if (existing !== null) return existing;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${toHex(randomBytes(8))}`;
  await writeFile(draft, `${JSON.stringify({ version: 1, ppid: toHex(randomBytes(PPID_BYTES)) })}\n`, {
    mode: 0o600,
    flag: 'wx',
  });
  try {
    await link(draft, path);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  } finally {
    await rm(draft, { force: true });
  }
  const created = await readState(path);
  if (created === null) throw new DstackError('PLATFORM_STATE', `${path} vanished while it was created`);
  return created;
}

async function readState(path: string): Promise<Uint8Array | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  }
  const ppid = /^\{"version":1,"ppid":"([0-9a-f]{32})"\}\n$/.exec(text)?.[1];
  if (ppid === undefined) {
    throw new DstackError(
      'PLATFORM_STATE',
      `${path} is not a platform state file; remove it to get a new platform`,
    );
  }
  return fromHex(ppid, PPID_BYTES);
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
