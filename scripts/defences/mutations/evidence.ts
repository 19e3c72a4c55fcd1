/** Evidence in files: attributes of a TD, firmware logs, tables with code, container archives. Points 4, 8 and 9. */
import { type Mutation, one } from '../mutation.ts';

const hostile = 'lib/attestation/hostile.test.ts';
const log = 'lib/attestation/registers/firmware-log.test.ts';
const acpi = 'lib/attestation/tdx/acpi.test.ts';
const archive = 'lib/archives/archive.test.ts';
const LOG = 'lib/attestation/registers/firmware-log.ts';
const ACPI = 'lib/attestation/tdx/acpi.ts';
const ARCHIVE = 'lib/archives/archive.ts';
const TAR = 'lib/archives/tar.ts';

const PODMAN = 'guest/kubernethes/podman.test.ts';
const FOLDERS = 'guest/disk/app-folders.test.ts';

export const evidence: readonly Mutation[] = [
  one(
    4,
    'the refusal of attributes without a name, where there is no policy',
    ['lib/attestation/verify.ts', '    requireKnownAttributes(quote.body);\n', ''],
    [hostile, '^without a policy, reserved TD attribute'],
  ),
  one(
    4,
    'the refusal of attributes without a name, under a policy',
    ['lib/attestation/quote/td-attributes.ts', '  requireNoReserved(attributes, allowed.reserved);\n', ''],
    [hostile, '^policy: a bit'],
  ),
  one(
    4,
    'that what extends nothing is left out of a firmware log',
    [LOG, 'if (type === EV_NO_ACTION || register === undefined)', 'if (register === undefined)'],
    [log, '^an EV_NO_ACTION entry'],
  ),
  one(
    4,
    'that a firmware log ends only where nothing follows',
    [LOG, 'rest.every((byte) => byte === first)', 'rest.subarray(0, 4).every((byte) => byte === first)'],
    [log, 'are the end only up to the end'],
  ),
  one(
    8,
    'the refusal of table digests without bytes',
    [
      'lib/attestation/tdx/machine-tables.ts',
      "const fileName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$' });",
      "const fileName = Type.String({ pattern: '^[A-Za-z0-9./_-]+$' });",
    ],
    ['cli/commands/image.test.ts', '^a digest without bytes'],
  ),
  one(
    8,
    'that every byte of ACPI tables is in a table of the review',
    [
      ACPI,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
      'if (!/^[A-Z][A-Z0-9]{3}$/.test(signature)) throw invalid(`byte ${at} belongs to no table`);',
      'if (!/^[A-Z][A-Z0-9]{3}$/.test(signature)) break;',
    ],
    [acpi, '^bytes behind the last table'],
  ),
  one(
    8,
    'that the ACPI loader points at tables of the review alone',
    [ACPI, 'if (!starts.has(target))', 'if (target > files.acpiTables.length)'],
    [acpi, 'points? into a table'],
  ),
  one(
    9,
    'that a link of an archive stays in it',
    [ARCHIVE, 'else if (parts.pop() === undefined) throw escapes();', 'else parts.pop();'],
    [archive, 'ARCHIVE_LINK_ESCAPE for layers'],
  ),
  one(
    9,
    "the look for an error in the engine's answer to a pull",
    ['guest/kubernethes/podman.ts', 'if (error === undefined || error === null)', 'if (error !== false)'],
    ['guest/kubernethes/podman.test.ts', 'podman says 200 to a pull that failed'],
  ),
  one(
    9,
    'that the last piece of a layer waits for its hash',
    [ARCHIVE, '    if (last !== undefined) yield last;\n    last = chunk;', '    yield chunk;'],
    [archive, 'the end of a layer that is not right is never handed on'],
  ),
  one(
    9,
    'the refusal of a compressed layer under its own hash',
    [ARCHIVE, '      trouble = packed(start, position);\n', ''],
    [archive, 'a bomb that'],
  ),
  one(
    9,
    "the refusal of GNU's sparse files",
    [TAR, "if (type === 'S') throw sparse();", ''],
    [archive, 'sparse files, in'],
  ),
  one(
    9,
    "the refusal of POSIX's sparse files",
    [TAR, "if (key.startsWith('GNU.sparse.')) throw sparse();", ''],
    [archive, 'sparse files, in'],
  ),
  one(
    9,
    'the count of what a layer takes unpacked',
    ['lib/archives/layer.ts', 'if (all <= this.#bytes) return;', 'if (all >= 0) return;'],
    [archive, 'more small files than there is room for'],
  ),
  one(
    9,
    'the refusal of FIFOs in it',
    ['lib/archives/layer.ts', 'if (type === FIFO)', "if (type === '')"],
    [archive, 'a FIFO, at which whoever opens it waits'],
  ),
  one(
    9,
    'the count of extended attributes in it',
    ['lib/archives/layer.ts', '      this.#take(claimed);\n', ''],
    [archive, 'extended attributes count'],
  ),
  one(
    9,
    'the refusal of a long name that another name hides',
    [
      'lib/archives/layer.ts',
      "    assertInside(this.#extended.name ?? '');\n    if (type === 'x')",
      "    if (type === 'x')",
    ],
    [archive, 'a long name before another that leads out of it'],
  ),
  one(
    9,
    'the refusal of names that lead out of a layer',
    ['lib/archives/layer.ts', "if (!name.split('/').includes('..')) return;", "if (name !== '..') return;"],
    [archive, 'that leads out of it'],
  ),
  one(
    9,
    'the room for an image twice, before it is given out',
    ['guest/kubernethes/deployment.ts', 'if (2 * pulled > budget)', 'if (pulled > budget)'],
    ['guest/kubernethes/deployment.test.ts', 'an image for which there is no room'],
  ),
  one(
    9,
    'that a load does not count of which a layer was not handed over',
    ['guest/kubernethes/deployment.ts', 'if (problem !== undefined) throw problem;', ''],
    ['guest/kubernethes/deployment.test.ts', 'what is wrong with the archive is said'],
  ),
  one(
    9,
    'that nothing of an offer is given out once a layer was wrong',
    [
      'guest/kubernethes/handover.ts',
      'offered === undefined || offered.problem !== undefined',
      'offered === undefined',
    ],
    ['guest/kubernethes/handover.test.ts', 'a layer that is not right breaks off'],
  ),
  one(
    9,
    "the look at an image's volumes",
    [
      'guest/kubernethes/deployment.ts',
      'if (unbounded === undefined) return;',
      "if (unbounded !== '') return;",
    ],
    ['guest/kubernethes/deployment.test.ts', 'an image is checked, loaded once'],
  ),
  one(
    9,
    'that a manifest which was kept still has its hash',
    ['guest/kubernethes/kept.ts', 'toHex(manifestHash(bytes)) === hash', "hash !== ''"],
    ['guest/kubernethes/kept.test.ts', 'a manifest is there for the next daemon'],
  ),
  one(
    9,
    "that an app's root is nobody in the VM",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/kubernethes/podman.ts', '      UsernsMode: `auto:size=${IDS}`,\n', ''],
    [PODMAN, 'is nobody in the VM'],
  ),
  one(
    9,
    'the size of what podman lets every container write to',
    ['guest/kubernethes/podman.ts', '{ ...unasked(volumes), ...tmpfs }', '{ ...tmpfs }'],
    [PODMAN, 'what the manifest says that it may use'],
  ),
  one(
    9,
    "the folder of root's around an app's",
    ['guest/disk/app-folders.ts', '    await chmod(own, 0o700);\n', ''],
    [FOLDERS, 'what a container does to its folder'],
  ),
  one(
    9,
    'that what an app makes counts where its folder does',
    ['guest/disk/app-folders.ts', "String(ino), '+P', making", 'String(ino), making'],
    [FOLDERS, 'each folder is a project'],
  ),
  one(
    9,
    'that a volume has its size or is refused',
    [
      'guest/disk/app-folders.ts',
      'if (volume !== undefined && !this.#limited)',
      'if (volume === null && !this.#limited)',
    ],
    [FOLDERS, 'a volume on a disk that holds nothing'],
  ),
  one(
    9,
    'that no link of the host volume is followed',
    ['guest/image/initramfs/init', 'noexec,nosymfollow host_volume', 'noexec host_volume'],
    ['test/trust/machine.test.ts', '^2: no link of the host volume'],
  ),
  one(
    9,
    "the look at an app's folder of the host volume",
    ['guest/kubernethes/storage.ts', 'if (found?.isDirectory() === true)', 'if (found !== undefined)'],
    ['guest/kubernethes/storage.test.ts', 'of the host volume'],
  ),
];
