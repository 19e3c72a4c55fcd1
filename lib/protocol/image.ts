/**
 * `image.json`: what `build_vm.sh` says about an image it built. The host reads it to boot the image; an auditor compares it
 * with a build of their own. It is not trusted: the measurement is computed from the files.
 */
import Type, { type Static } from 'typebox';
import { FlavourSchema } from './network-config.ts';
import { parseJson } from './schema.ts';

const MAX_IMAGE_JSON = 64 * 1024;

const hex32 = Type.String({ pattern: '^0x[0-9a-f]{64}$' });
const file = Type.Object(
  {
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    size: Type.Integer({ minimum: 1, maximum: 2 ** 32 }),
  },
  { additionalProperties: false },
);

/** The number of virtual processors and the memory: both are measured. */
const shape = Type.Object(
  {
    cpus: Type.Integer({ minimum: 1, maximum: 256 }),
    memoryMiB: Type.Integer({ minimum: 512, maximum: 2 ** 20 }),
  },
  { additionalProperties: false },
);

export const imageManifestSchema = Type.Object(
  {
    version: Type.Literal(1),
    flavour: FlavourSchema,
    /** Seconds since 1970: SOURCE_DATE_EPOCH, the same for every build of the same sources. */
    builtAt: Type.Integer({ minimum: 0 }),
    /** The whole kernel command line; measured. */
    commandLine: Type.String({ minLength: 1, maxLength: 2000, pattern: '^[ -~]+$' }),
    /** dm-verity's root hash (SHA-256, hex), also on the command line. */
    rootHash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    kernelRelease: Type.String({ pattern: '^[0-9A-Za-z.+~_-]{1,64}$' }),
    /** How many Debian packages went in. */
    packages: Type.Integer({ minimum: 1 }),
    /** SHA-256 (hex) of the lock's lines for the guest and the kernel. */
    lockHash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    files: Type.Object(
      { vmlinuz: file, 'initramfs.cpio.zst': file, 'root.img': file, 'firmware.bin': file },
      { additionalProperties: false },
    ),
    defaultShape: shape,
    /** Of the default shape on the simulated platform: H(MRTD ‖ RTMR0 ‖ RTMR1 ‖ RTMR2). */
    measurement: hex32,
  },
  { additionalProperties: false },
);

/** What `image.json` holds, in the build's output folder. */
export type ImageManifest = Static<typeof imageManifestSchema>;

/**
 * Parses `image.json` of a build's output folder.
 * @throws DstackError IMAGE_INVALID with the first thing that is wrong.
 */
export function parseImageManifest(text: string): ImageManifest {
  return parseJson(imageManifestSchema, text, 'IMAGE_INVALID', 'image.json', MAX_IMAGE_JSON);
}
