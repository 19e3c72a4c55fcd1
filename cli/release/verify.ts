/**
 * Whether a folder is the release of whoever has a key: the signature first, then every file by its sum, and then that what the release
 * says of itself follows from its files. A release makes nobody trust its image: the contract allows a measurement, and whether the
 * source builds that image is for `image reproduce`.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { imageLockHash, type LockedPackage, parseLock } from '../../guest/image/packages.ts';
import { openImage } from '../../host/vm/image.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { MEASUREMENT_MAX_BYTES, type Measured, MeasurementSchema, measured } from './measurement.ts';
import { requireSignature } from './signature.ts';
import { parseSums, requireSums, SUMS, SUMS_MAX_BYTES } from './sums.ts';

const LOCK_MAX_BYTES = 1024 * 1024;
const SBOM_MAX_BYTES = 16 * 1024 * 1024;
const SbomSchema = Type.Object({
  bomFormat: Type.Literal('CycloneDX'),
  metadata: Type.Object({ component: Type.Object({ name: Type.String(), version: Type.String() }) }),
  components: Type.Array(
    Type.Object({
      'bom-ref': Type.String(),
      version: Type.Optional(Type.String()),
      hashes: Type.Array(Type.Object({ alg: Type.String(), content: Type.String() }), {
        minItems: 1,
        maxItems: 1,
      }),
    }),
  ),
});
type Sbom = Static<typeof SbomSchema>;

export interface Verified {
  readonly measured: Measured;
  /** How many Debian and npm packages its bill of materials has. */
  readonly packages: { readonly debian: number; readonly npm: number };
  readonly files: number;
}

export interface VerifyOptions {
  /** Whose release it has to be: type and key. Undefined where that does not matter, as of an image that a contract names. */
  readonly publicKey: string | undefined;
  /** Of a production image: tables.json of this host's machine. */
  readonly tables?: string | undefined;
}

/** Whether a folder says that it is a release. */
export const isRelease = (folder: string): boolean => existsSync(join(folder, SUMS));

/**
 * @throws RELEASE_MISSING, RELEASE_UNSIGNED, RELEASE_SIGNATURE, RELEASE_SUMS, RELEASE_FILE, RELEASE_IMAGE, RELEASE_MEASUREMENT,
 *   RELEASE_SBOM, IMAGE_INVALID, LOCK_INVALID, RELEASE_TOOL
 */
export async function verifyRelease(folder: string, { publicKey, tables }: VerifyOptions): Promise<Verified> {
  const text = (name: string, maxBytes: number) => readBounded(join(folder, name), { maxBytes }).toString();
  if (!isRelease(folder))
    throw new DstackError('RELEASE_MISSING', `${folder} is no release: it has no ${SUMS}`);
  const signed = readBounded(join(folder, SUMS), { maxBytes: SUMS_MAX_BYTES });
  if (publicKey !== undefined) await requireSignature(folder, signed, publicKey);
  const sums = parseSums(signed.toString());
  await requireSums(folder, sums);

  const image = await openImage(folder);
  const { files, flavour, lockHash, packages: count } = image.manifest;
  for (const [name, { sha256 }] of Object.entries(files))
    if (sums.get(name) !== sha256)
      throw new DstackError(
        'RELEASE_IMAGE',
        `image.json says that ${name} is another file than the one beside it`,
      );
  const packages = parseLock(text('packages.lock', LOCK_MAX_BYTES));
  if (imageLockHash(packages, flavour) !== lockHash || packages.length !== count)
    throw new DstackError('RELEASE_IMAGE', 'packages.lock is not the one that image.json names');

  const said = parseJson(
    MeasurementSchema,
    text('measurement.json', MEASUREMENT_MAX_BYTES),
    'RELEASE_MEASUREMENT',
    'measurement.json',
    MEASUREMENT_MAX_BYTES,
  );
  const found = await measured(image, said.release, tables);
  // What TDX reports is told by the machine's tables alone: of a release that says it they are needed to check it.
  const isComparable = flavour !== 'production' || tables !== undefined;
  if (isComparable ? JSON.stringify(found) !== JSON.stringify(said) : said.flavour !== flavour)
    throw new DstackError(
      'RELEASE_MEASUREMENT',
      `measurement.json says ${said.measurement} of a ${said.flavour} image, and the files are of a ${flavour} image with ${found.measurement}`,
    );

  const sbom = parseJson(
    SbomSchema,
    text('sbom.cdx.json', SBOM_MAX_BYTES),
    'RELEASE_SBOM',
    'sbom.cdx.json',
    SBOM_MAX_BYTES,
  );
  const npm = requireSbom(sbom, { image: image.manifest, packages, release: said.release });
  return {
    measured: isComparable ? found : said,
    packages: { debian: packages.length, npm },
    files: sums.size,
  };
}

/**
 * That it is of this release, and has the image's files and Debian packages, each once and as they are. What it says of npm's, which are not in
 * the image, is its maker's word.
 * @returns how many of those there are @throws RELEASE_SBOM
 */
function requireSbom(
  { metadata, components }: Sbom,
  of: {
    readonly image: ImageManifest;
    readonly packages: readonly LockedPackage[];
    readonly release: string;
  },
): number {
  const refuse = (why: string): never => {
    throw new DstackError('RELEASE_SBOM', `sbom.cdx.json ${why}`);
  };
  const { flavour, files } = of.image;
  const { name, version } = metadata.component;
  if (name !== `dstack-${flavour}` || version !== of.release)
    refuse(`is of ${name} ${version}, and the release is dstack-${flavour} ${of.release}`);
  const named = new Map(components.map((component) => [component['bom-ref'], component]));
  if (named.size !== components.length) refuse('has a component twice');
  const take = (ref: string, sum: string, is?: string): boolean => {
    const found = named.get(ref);
    named.delete(ref);
    return found?.version === is && found?.hashes[0]?.alg === 'SHA-256' && found.hashes[0].content === sum;
  };
  for (const [file, { sha256 }] of Object.entries(files))
    if (!take(file, sha256)) refuse(`does not have ${file} as it is beside it`);
  for (const { root, name: debian, version: is, sha256 } of of.packages)
    if (!take(`deb:${root}/${debian}`, sha256, is))
      refuse(`does not have ${debian} ${is} as packages.lock has it`);
  const other = [...named.keys()].find((ref) => !ref.startsWith('npm:'));
  if (other !== undefined) refuse(`has ${JSON.stringify(other.slice(0, 100))}, which is not in the image`);
  return named.size;
}
