/** The attestor's start, step by step, and what it serves afterwards. */
import { mkdir, stat } from 'node:fs/promises';
import type { Server } from 'node:http';
import { dirname, join } from 'node:path';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { hasCode } from '../../lib/protocol/errors.ts';
import { configHash, type Flavour, type ImageInfo } from '../../lib/protocol/network-config.ts';
import { check } from '../../lib/protocol/schema.ts';
import {
  type AttestorStatusReply,
  type FirmwareLogReply,
  QuoteRequest,
  sockets,
} from '../../lib/protocol/sockets.ts';
import { takeBootFile } from './boot-files.ts';
import { type AttestationDevice, attestationDevice } from './device.ts';
import type { PlatformFiles } from './platform-files.ts';
import { type RegisterLog, registerLog } from './register-log.ts';

export interface AttestorOptions {
  /** Prefix of every path; empty in the guest. */
  readonly root: string;
  /** The hardware's files, for an image of this flavour. */
  readonly platformFiles: (flavour: Flavour) => PlatformFiles;
  /** Called whenever RTMR3 is found to have an impossible value: the machine must end. */
  readonly onFatal: (error: unknown) => void;
}

export interface RunningAttestor {
  readonly server: Server;
  readonly device: AttestationDevice;
  readonly flavour: Flavour;
  readonly config: Uint8Array;
}

/**
 * Freezes the boot files, brings RTMR3 to where it must be, and serves.
 * @throws any error that makes it impossible to vouch for this machine: it must then power off
 */
export async function startAttestor(options: AttestorOptions): Promise<RunningAttestor> {
  const at = (path: string) => join(options.root, path);

  const network = await takeBootFile({
    source: at('/mnt/host_volume/network.json'),
    target: at('/run/dstack/network.json'),
    optional: false,
  });
  await takeBootFile({
    source: at('/mnt/host_volume/host.json'),
    target: at('/run/dstack/host.json'),
    optional: true,
  });
  const image = readImageInfo(options.root);
  const config = configHash(network);

  const device = attestationDevice(image.flavour, options.platformFiles(image.flavour));
  const log = registerLog(device, image.flavour, config);
  await log.establish();

  const socketPath = at(`/run/dstack/${sockets.attestor}`);
  const server = await serve(socketPath, routes(image, config, device, log), options.onFatal);
  return { server, device, flavour: image.flavour, config };
}

type Routes = Record<string, (body: unknown) => Promise<unknown>>;

function routes(image: ImageInfo, config: Uint8Array, device: AttestationDevice, log: RegisterLog): Routes {
  return {
    'POST /v1/quote': async (body) => {
      const { reportData } = check(QuoteRequest, body, 'QUOTE_REQUEST', 'the request for a quote');
      return { quote: toHex(await device.quote(fromHex(reportData, 64))) };
    },
    'POST /v1/joined': async () => {
      await log.join();
      return {};
    },
    'GET /v1/firmware-log': async (): Promise<FirmwareLogReply> => {
      const found = await device.firmwareLog();
      const events = (found?.events ?? []).flatMap(({ register, type, digest }) =>
        register === 'mrtd' || register === 'rtmr3' ? [] : [{ register, type, digest: toHex(digest) }],
      );
      return { events };
    },
    'GET /v1/status': async (): Promise<AttestorStatusReply> => ({
      device: device.kind,
      flavour: image.flavour,
      config: toHex(config),
      joined: (await log.state()) === 'joined',
    }),
  };
}

async function serve(path: string, routes: Routes, onFatal: (error: unknown) => void): Promise<Server> {
  const guarded = Object.entries(routes).map(([name, route]) => [
    name,
    async (body: unknown) => {
      try {
        return await route(body);
      } catch (error) {
        if (hasCode(error, 'RTMR3_UNEXPECTED')) onFatal(error);
        throw error;
      }
    },
  ]);
  // In the guest, systemd has made the directory with mode 0750; its group is the socket's, and the replicator is in it.
  await mkdir(dirname(path), { recursive: true, mode: 0o750 });
  const { gid } = await stat(dirname(path));
  return serveUnix({ path, routes: Object.fromEntries(guarded), gid, mode: 0o660, maxBodyBytes: 4096 });
}
