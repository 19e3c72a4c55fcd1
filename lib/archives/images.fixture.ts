/** For tests: images, the archives that hold them, and an engine that pulls as podman does. */
import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { type Header, pack } from 'tar-stream';

/** A header with its content, as tar-stream takes them. */
export type Item = [Partial<Header> | string, (string | Buffer)?];

export const hash = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export function tar(items: readonly Item[]): Promise<Buffer> {
  const archive = pack();
  for (const [header, content] of items) {
    archive.entry((typeof header === 'string' ? { name: header } : header) as Header, content ?? '');
  }
  archive.finalize();
  return buffer(archive);
}

/** A tar archive of one file with this content: what a layer is. */
export function layerOf(content: string, name = 'file'): Buffer {
  const padding = Buffer.alloc((512 - (Buffer.byteLength(content) % 512)) % 512);
  return Buffer.concat([
    tarHeader(name, Buffer.byteLength(content)),
    Buffer.from(content),
    padding,
    Buffer.alloc(1024),
  ]);
}

/** A ustar header. */
export function tarHeader(name: string, size: number, type = '0', link = ''): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0, 'utf8');
  header.write('0000644\0', 100, 'latin1');
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  header.write(type, 156, 'latin1');
  header.write(link, 157, 'utf8');
  header.write('ustar\x0000', 257, 'latin1');
  return withChecksum(header);
}

/** The archive with its first header's checksum recomputed. */
export function withChecksum(bytes: Buffer): Buffer {
  bytes.fill(0x20, 148, 156);
  const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** An image of such layers, with these fields of its config, and the parts of its archive, which a test may replace. */
export function imageOf(layers: readonly Buffer[], fields: object = {}) {
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['/greet'] },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${hash(layer)}`) },
    ...fields,
  });
  const digest = hash(config);
  const names = layers.map((layer) => `${hash(layer)}.tar`);
  const index = [{ Config: `${digest}.json`, RepoTags: ['x:1'], Layers: names }];
  const items: Item[] = [
    ...layers.map((layer, i): Item => [names[i]!, layer]),
    [`${digest}.json`, config],
    ['manifest.json', JSON.stringify(index)],
  ];
  return { layers, config, digest, names, index, items };
}

export interface Pulled {
  /** The SHA-256 of its config, 64 hex digits. */
  digest: string;
  config: string;
  layers: Buffer[];
}

/**
 * Pulls an image by its reference, `host:port/name@sha256:…`, and checks each part as podman does.
 * @throws Error when a part is not there, breaks off, or has another hash
 */
export async function pull(reference: string): Promise<Pulled> {
  const [, host, name, digest] = /^(127\.0\.0\.1:\d+)\/([0-9a-f]+)@(sha256:[0-9a-f]{64})$/.exec(reference)!;
  const part = async (kind: string, digest: string): Promise<Buffer> => {
    const response = await fetch(`http://${host}/v2/${name}/${kind}/${digest}`);
    if (response.status !== 200) throw new Error(`${kind} ${digest}: status ${response.status}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    if (`sha256:${hash(bytes)}` !== digest) throw new Error(`${kind} ${digest} is something else`);
    return bytes;
  };
  const manifest = JSON.parse((await part('manifests', digest!)).toString()) as {
    config: { digest: string };
    layers: { digest: string }[];
  };
  const config = (await part('blobs', manifest.config.digest)).toString();
  const layers: Buffer[] = [];
  for (const layer of manifest.layers) layers.push(await part('blobs', layer.digest));
  return { digest: hash(config), config, layers };
}
