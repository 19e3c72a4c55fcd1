/**
 * How images get into the container engine: it pulls them, from a registry on the loopback that has only what is offered at the
 * moment (OCI distribution spec, "Pull"; Docker image manifest, schema 2). Given as an archive, an image would be in memory
 * three more times before it is unpacked: the copy, the engine's copy of what it was sent, and its copy of each layer. Pulled,
 * it is there once more, a layer at a time, and comes right from the host's volume.
 *
 * The engine too hashes all that it pulls, against the same digests. An offer is named by a random token, so that nothing else
 * in the machine can read it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FoundImage, FoundLayer } from '../../lib/archives/archive.ts';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

const MANIFEST_TYPE = 'application/vnd.docker.distribution.manifest.v2+json';
const CONFIG_TYPE = 'application/vnd.docker.container.image.v1+json';
const LAYER_TYPE = 'application/vnd.docker.image.rootfs.diff.tar';

/** An image that the engine may pull. */
export interface Offer {
  /** `host:port/token@sha256:…` */
  reference: string;
  /** Why a layer was not handed over to its end, if one was not; nothing of the offer is given out any more then. */
  problem(): DstackError | undefined;
  /** Takes it back; what is under way is broken off. */
  end(): void;
}

export interface Handover {
  /** @param layer a layer's bytes, checked as `checkedLayer` does it */
  offer(image: FoundImage, layer: (found: FoundLayer) => AsyncIterable<Buffer>): Promise<Offer>;
  close(): void;
}

interface Offered {
  manifest: Buffer;
  image: FoundImage;
  layer(found: FoundLayer): AsyncIterable<Buffer>;
  problem: DstackError | undefined;
  /** Ended with the offer. */
  under: Set<ServerResponse>;
}

/** @param port on the loopback; 0 for any, in tests: the image's policy names one. It listens from the first offer on */
export function handover(port: number): Handover {
  const offers = new Map<string, Offered>();
  const server = createServer(HTTP_CHECKS, (request, response) => {
    answer(offers, request, response).catch(() => response.destroy());
  });
  limitConnections(server, { connections: 64, perSource: 64 });
  let listening: Promise<number> | undefined;

  return {
    async offer(image, layer) {
      listening ??= listen(server, port).catch((error) => {
        listening = undefined;
        throw error;
      });
      const at = await listening;
      const token = randomBytes(16).toString('hex');
      const manifest = manifestOf(image);
      const offered: Offered = { manifest, image, layer, problem: undefined, under: new Set() };
      offers.set(token, offered);
      return {
        reference: `127.0.0.1:${at}/${token}@${digestOf(manifest)}`,
        problem: () => offered.problem,
        end() {
          offers.delete(token);
          for (const response of offered.under) response.destroy();
        },
      };
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new DstackError('HANDOVER_PORT', `cannot listen on 127.0.0.1:${port}`, { cause })),
    );
    server.listen(port, '127.0.0.1', resolve);
  });
  return (server.address() as AddressInfo).port;
}

function manifestOf(image: FoundImage): Buffer {
  const layers = image.layers.map(({ digest, entry }) => ({
    mediaType: LAYER_TYPE,
    size: entry.size,
    digest: `sha256:${digest}`,
  }));
  const config = { mediaType: CONFIG_TYPE, size: image.config.length, digest: `sha256:${image.digest}` };
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers }));
}

async function answer(
  offers: ReadonlyMap<string, Offered>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const nothing = () => response.writeHead(404).end('{"errors":[{"code":"NAME_UNKNOWN"}]}');
  const hasBody = request.method === 'GET';
  if (!hasBody && request.method !== 'HEAD') return void nothing();
  if (request.url === '/v2/') return void response.writeHead(200).end('{}');
  const [, token, kind, digest] =
    /^\/v2\/([0-9a-f]{32})\/(manifests|blobs)\/sha256:([0-9a-f]{64})$/.exec(request.url ?? '') ?? [];
  const offered = token === undefined ? undefined : offers.get(token);
  if (offered === undefined || offered.problem !== undefined) return void nothing();
  const { image, manifest } = offered;
  const whole = (bytes: Uint8Array, type: string) =>
    response
      .writeHead(200, { 'content-type': type, 'content-length': bytes.length })
      .end(hasBody ? bytes : undefined);
  if (kind === 'manifests')
    return void (`sha256:${digest}` === digestOf(manifest) ? whole(manifest, MANIFEST_TYPE) : nothing());
  if (digest === image.digest) return void whole(image.config, 'application/octet-stream');
  const found = image.layers.find((layer) => layer.digest === digest);
  if (found === undefined) return void nothing();
  response.writeHead(200, {
    'content-type': 'application/octet-stream',
    'content-length': found.entry.size,
  });
  if (hasBody) await send(offered, found, response);
  else response.end();
}

async function send(offered: Offered, found: FoundLayer, response: ServerResponse): Promise<void> {
  offered.under.add(response);
  try {
    await pipeline(Readable.from(offered.layer(found), { objectMode: false }), response);
  } catch (error) {
    // What is not ours is the engine's: it hung up.
    if (error instanceof DstackError) offered.problem ??= error;
    throw error;
  } finally {
    offered.under.delete(response);
  }
}

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
