/** From a manifest hash to something that can be started: the manifest checked, its images loaded into the engine. */
import { join } from 'node:path';
import { checkedLayer, type FoundImage, findImage, layerBytes } from '../../lib/archives/archive.ts';
import { assertImageConfig } from '../../lib/archives/image-config.ts';
import { Room } from '../../lib/archives/layer.ts';
import { bytesEqual, fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import {
  MANIFEST_MAX_BYTES,
  type Manifest,
  manifestHash,
  parseManifest,
} from '../../lib/protocol/manifest.ts';
import type { Engine } from './engine.ts';
import type { Handover } from './handover.ts';
import { type HostArchive, loadBudget, openHostArchive, readHostFile } from './host-files.ts';
import type { Kept } from './kept.ts';

export interface Places {
  /** The host's volume: `manifests/` and `archives/`. */
  hostVolume: string;
  /** Where the engine keeps images: in memory, within a limit. */
  storage: string;
  meminfo: string;
}

/** The largest archive that is accepted, in bytes, however much memory there is. */
const ARCHIVE_MAX_BYTES = 1024 * 1024 * 1024;

/** The manifest that the contract names is here, and is none that a node runs: no other bytes will ever come. */
export class ManifestRefused extends DstackError {}

/** Finds manifests and images and checks them; the supervisor's tests substitute their own. */
export interface Fetcher {
  /** @throws MANIFEST_…: a ManifestRefused where the bytes are those that the contract names */
  manifest(app: string, hash: string): Promise<Manifest>;
  /**
   * Makes the image with this digest available in the engine.
   * @param writable the folders that its container writes to
   * @throws ARCHIVE_…, ENGINE_…, IMAGE_FILES, IMAGE_CONFIG, IMAGE_VOLUME
   */
  image(digest: string, writable: readonly string[]): Promise<void>;
}

export function fetcher(engine: Engine, places: Places, kept: Kept, handover: Handover): Fetcher {
  /** Bytes for the loads that are under way, which memory has to hold too. */
  let promised = 0;
  const loading = new Map<string, Promise<void>>();

  return {
    async manifest(app, hash) {
      const name = toHex(fromHex(hash, 32));
      const known = kept.manifest(name);
      if (known !== undefined) return ofApp(known, app);
      const path = join(places.hostVolume, 'manifests', `${name}.json`);
      const bytes = await readHostFile(path, 'MANIFEST', MANIFEST_MAX_BYTES);
      if (!bytesEqual(manifestHash(bytes), fromHex(hash, 32))) {
        throw new DstackError(
          'MANIFEST_HASH_MISMATCH',
          `${path} hashes to ${toHex(manifestHash(bytes))}; replace it with the manifest that was rolled out`,
        );
      }
      const manifest = judged(bytes, app);
      kept.save(name, bytes);
      return manifest;
    },

    async image(digest, writable) {
      if (!(await engine.hasImage(digest))) await load(digest);
      await engine.assertReadable(digest);
      const volumes = await engine.imageVolumes(digest);
      const unbounded = volumes.find((path) => !writable.includes(path));
      if (unbounded === undefined) return;
      throw new DstackError(
        'IMAGE_VOLUME',
        `the image has a VOLUME at ${unbounded.slice(0, 100)}, which would be in the VM's memory without a limit: give the container a tmpfs or a volume there`,
      );
    },
  };

  /** Two apps may want the same image at once. */
  function load(digest: string): Promise<void> {
    const under = loading.get(digest);
    if (under !== undefined) return under;
    const one = loadOnce(digest).finally(() => loading.delete(digest));
    loading.set(digest, one);
    return one;
  }

  async function loadOnce(digest: string): Promise<void> {
    const name = toHex(fromHex(digest, 32));
    const source = join(places.hostVolume, 'archives', `${name}.tar`);
    const archive = await openHostArchive(source, ARCHIVE_MAX_BYTES);
    try {
      const image = await findImage(archive, archive.size, digest);
      assertImageConfig(image.config);
      await loadFrom(archive, image);
    } finally {
      await archive.close();
    }
    if (!(await engine.hasImage(digest))) {
      throw new DstackError('ARCHIVE_NOT_LOADED', `after loading it, podman has no image ${digest}`);
    }
  }

  /** The engine has each layer twice for a while: as it pulled it, and unpacked. */
  async function loadFrom(archive: HostArchive, image: FoundImage): Promise<void> {
    const pulled = layerBytes(image);
    const budget = await loadBudget(places.meminfo, places.storage, promised);
    if (2 * pulled > budget) {
      throw new DstackError(
        'ARCHIVE_TOO_LARGE',
        `the image has ${pulled} bytes, and takes twice as many while it is loaded; there is room for ${budget}`,
      );
    }
    promised += 2 * pulled;
    const room = new Room(budget - pulled);
    const offer = await handover.offer(image, (layer) => checkedLayer(archive, archive.size, layer, room));
    try {
      await engine.pullImage(offer.reference).catch((error: unknown) => {
        throw offer.problem() ?? error;
      });
    } finally {
      offer.end();
      promised -= 2 * pulled;
    }
    // An engine that is content with less than all bytes has something else.
    const problem = offer.problem();
    if (problem !== undefined) throw problem;
  }
}

function judged(bytes: Uint8Array, app: string): Manifest {
  try {
    return ofApp(parseManifest(bytes), app);
  } catch (cause) {
    throw new ManifestRefused(codeOf(cause), (cause as Error).message, { cause });
  }
}

function ofApp(manifest: Manifest, app: string): Manifest {
  if (manifest.app === app) return manifest;
  throw new DstackError(
    'MANIFEST_WRONG_APP',
    `the manifest rolled out for ${app} belongs to ${manifest.app}`,
  );
}
