/** From a manifest hash to something that can be started: the manifest checked, its images loaded into the engine. */
import { join } from 'node:path';
import { bytesEqual, fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  MANIFEST_MAX_BYTES,
  type Manifest,
  manifestHash,
  parseManifest,
} from '../../lib/protocol/manifest.ts';
import { verifiedStream, verifyArchive } from './archive.ts';
import type { Engine } from './engine.ts';
import { copyBudget, copyHostFile, readHostFile } from './host-files.ts';

export interface Places {
  /** The host's volume: `manifests/` and `archives/`. */
  hostVolume: string;
  /** On the guest's tmpfs: where an archive is copied to. */
  scratch: string;
  meminfo: string;
}

/** The largest archive that is accepted, in bytes, however much memory there is. */
const ARCHIVE_MAX_BYTES = 1024 * 1024 * 1024;

/** Finds manifests and images and checks them; the supervisor's tests substitute their own. */
export interface Fetcher {
  /** @throws MANIFEST_… */
  manifest(app: string, hash: string): Promise<Manifest>;
  /** Makes the image with this digest available in the engine. @throws ARCHIVE_…, ENGINE_… */
  image(digest: string): Promise<void>;
}

export function fetcher(engine: Engine, places: Places): Fetcher {
  return {
    async manifest(app, hash) {
      const path = join(places.hostVolume, 'manifests', `${toHex(fromHex(hash, 32))}.json`);
      const bytes = await readHostFile(path, MANIFEST_MAX_BYTES);
      if (!bytesEqual(manifestHash(bytes), fromHex(hash, 32))) {
        throw new DstackError(
          'MANIFEST_HASH_MISMATCH',
          `${path} hashes to ${toHex(manifestHash(bytes))}; replace it with the manifest that was rolled out`,
        );
      }
      const manifest = parseManifest(bytes);
      if (manifest.app !== app) {
        throw new DstackError(
          'MANIFEST_WRONG_APP',
          `the manifest rolled out for ${app} belongs to ${manifest.app}`,
        );
      }
      return manifest;
    },

    async image(digest) {
      if (await engine.hasImage(digest)) return;
      const name = toHex(fromHex(digest, 32));
      const budget = await copyBudget(places.meminfo, ARCHIVE_MAX_BYTES);
      const source = join(places.hostVolume, 'archives', `${name}.tar`);
      const copy = await copyHostFile(source, join(places.scratch, `${name}.tar`), budget);
      try {
        const image = await verifyArchive(copy.file, copy.size, digest);
        await engine.loadImage(verifiedStream(copy.file, copy.size, image));
      } finally {
        await copy.dispose();
      }
      if (!(await engine.hasImage(digest))) {
        throw new DstackError('ARCHIVE_NOT_LOADED', `after loading it, podman has no image ${digest}`);
      }
    },
  };
}
