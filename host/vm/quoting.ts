/**
 * The simulated quoting service: for one QEMU process, what the CPU and its quoting enclave are on a TDX host.
 *
 * State: RTMR3 lives in this service alone and starts at zero, so it has to be started anew for each QEMU process, as
 * resetting a machine resets its registers. The other registers are fixed by whoever started QEMU, from the very files
 * that it boots. Durable is only the platform's PPID, in `platformStateFile`: one host, one platform.
 *
 * The guest is hostile to us as we are to it: lines are bounded, requests checked by a schema, replies written only as
 * fast as the guest reads them, and a bad line gets an error line.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { extendRegister, zeroRegister } from '../../lib/attestation/rtmr.ts';
import { type SimulatedSetting, simulatedPlatform } from '../../lib/attestation/simulated-conditions.ts';
import type { ImageRegisters } from '../../lib/attestation/simulated-measurement.ts';
import { PPID_BYTES, type SimulatedPlatform } from '../../lib/attestation/simulated-platform.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { LineSplitter } from '../../lib/protocol/lines.ts';
import {
  MAX_QUOTING_REQUEST,
  parseQuotingRequest,
  type QuotingReply,
  type QuotingRequest,
} from '../../lib/protocol/quoting-messages.ts';

export interface QuotingOptions {
  /** Unix socket to listen on; QEMU connects to it (`-chardev socket,path=…,server=off`). Mode 0600. */
  readonly socketPath: string;
  /** What the VM boots, by `simulatedRegisters`. */
  readonly registers: ImageRegisters;
  /** Keeps the host's PPID; created with mode 0600 when missing. */
  readonly platformStateFile: string;
  /** What the platform is to be like, to see how a network takes it. */
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
 * @throws DstackError PLATFORM_STATE when the state file is not one, REGISTER_LENGTH when a register is not 48 bytes.
 */
export async function startQuotingService(options: QuotingOptions): Promise<QuotingService> {
  const ppid = await readOrCreatePpid(options.platformStateFile);
  const platform = simulatedPlatform(ppid, options.simulated);
  const machine = createMachine(platform, options.registers);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // A guest that goes away is no error of ours; serve() ends by itself.
    socket.on('error', () => socket.destroy());
    void serve(socket, machine).catch(() => socket.destroy());
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
export async function simulatedPlatformId(platformStateFile: string): Promise<string> {
  const ppid = await readOrCreatePpid(platformStateFile);
  return toHex(simulatedPlatform(ppid).platformId);
}

type Machine = (request: QuotingRequest) => QuotingReply;

/** The registers of one machine, and its three instructions. */
function createMachine(platform: SimulatedPlatform, image: ImageRegisters): Machine {
  let rtmr3 = zeroRegister();
  return (request) => {
    const registers = { ...image, rtmr3 };
    switch (request.op) {
      case 'read':
        return {
          id: request.id,
          registers: {
            mrtd: toHex(image.mrtd),
            rtmr0: toHex(image.rtmr0),
            rtmr1: toHex(image.rtmr1),
            rtmr2: toHex(image.rtmr2),
            rtmr3: toHex(rtmr3),
          },
        };
      case 'extend':
        rtmr3 = extendRegister(rtmr3, fromHex(request.digest, 48));
        return { id: request.id, rtmr3: toHex(rtmr3) };
      case 'quote':
        return {
          id: request.id,
          quote: toHex(platform.signQuote({ registers, reportData: fromHex(request.reportData, 64) })),
        };
    }
  };
}

/** Answers the lines of one connection, one after the other. */
async function serve(socket: Socket, machine: Machine): Promise<void> {
  const splitter = new LineSplitter(MAX_QUOTING_REQUEST);
  for await (const chunk of socket as AsyncIterable<Uint8Array>) {
    for (const line of splitter.push(chunk)) {
      if ('text' in line && line.text.trim() === '') continue;
      const reply =
        'text' in line ? answer(line.text, machine) : refuse('REQUEST_TOO_LONG', 'the line is too long');
      // Waiting for the guest to read keeps one that only writes from filling our memory.
      if (!socket.write(`${JSON.stringify(reply)}\n`)) await once(socket, 'drain');
    }
  }
}

function answer(line: string, machine: Machine): QuotingReply {
  const request = parseQuotingRequest(line);
  if (request === null) return refuse('REQUEST_INVALID', 'the line is not a request of this protocol');
  try {
    return machine(request);
  } catch (error) {
    return { id: request.id, error: { code: codeOf(error), message: 'the request failed' } };
  }
}

function refuse(code: string, message: string): QuotingReply {
  return { id: null, error: { code, message } };
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
