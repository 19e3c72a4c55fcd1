/** A release: a folder that is an image, and says what it is made of, what it measures, what is new, and who made it. */
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseLock } from '../../guest/image/packages.ts';
import { openImage } from '../../host/vm/image.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../lib/daemon/folder.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';
import { measured } from './measurement.ts';
import { notesOf } from './notes.ts';
import { sbomOf } from './sbom.ts';
import { signSums } from './signature.ts';
import { formatSums, SUMS, sumsOf } from './sums.ts';
import { type Verified, verifyRelease } from './verify.ts';

export interface ReleaseOptions {
  /** A folder as build_vm.sh leaves it. */
  readonly image: string;
  /** Where `dstack-VERSION-FLAVOUR` is made. */
  readonly out: string;
  /** The private key's file, or the public one's of a key in an agent. */
  readonly key: string;
  /** Of a production image: tables.json of the machine that its measurement is for. */
  readonly tables?: string | undefined;
  /** The repository, whose version, locks and changelog these are. */
  readonly root?: string;
}

export interface Release extends Verified {
  readonly folder: string;
  /** Type and key, as `image verify --key` takes it. */
  readonly publicKey: string;
}

/**
 * @throws IMAGE_MISSING, IMAGE_INVALID, RELEASE_THERE, RELEASE_IMAGE, RELEASE_SIGN, RELEASE_KEY, RELEASE_TOOL, SBOM_INPUT,
 *   RELEASE_NOTES, and what measuring throws
 */
export async function makeRelease(options: ReleaseOptions): Promise<Release> {
  const { root = repository } = options;
  const image = await openImage(options.image);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const folder = join(resolve(options.out), `dstack-${version}-${image.manifest.flavour}`);
  if (existsSync(folder))
    throw new DstackError(
      'RELEASE_THERE',
      `${folder} is there already, and a release does not change: raise the version in package.json, or remove it`,
    );
  // Nobody finds a release that is not finished.
  const draft = `${folder}.draft`;
  rmSync(draft, { recursive: true, force: true });
  makeFolder(draft);
  try {
    for (const name of [...Object.keys(image.manifest.files), 'image.json', 'packages.lock'])
      copyFileSync(join(options.image, name), join(draft, name));
    const write = (name: string, text: string) => writeDurably(join(draft, name), text);
    const copied = await openImage(draft);
    write('measurement.json', asText(await measured(copied, version, options.tables)));
    write(
      'sbom.cdx.json',
      sbomOf({
        version,
        image: image.manifest,
        packages: parseLock(readFileSync(join(draft, 'packages.lock'), 'utf8')),
        npmLock: readFileSync(join(root, 'package-lock.json'), 'utf8'),
      }),
    );
    write('NOTES.md', notesOf(readFileSync(join(root, 'CHANGELOG.md'), 'utf8'), version));
    write(SUMS, formatSums(await sumsOf(draft)));
    const publicKey = await signSums(draft, options.key);
    const verified = await verifyRelease(draft, { publicKey, tables: options.tables });
    renameSync(draft, folder);
    return { ...verified, folder, publicKey };
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

const asText = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
