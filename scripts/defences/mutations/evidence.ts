/** Evidence in files: attributes of a TD, firmware logs, tables with code, container archives. Points 4, 8 and 9. */
import { type Mutation, one } from '../mutation.ts';

const hostile = 'lib/attestation/hostile.test.ts';
const log = 'lib/attestation/registers/firmware-log.test.ts';
const acpi = 'lib/attestation/tdx/acpi.test.ts';
const archive = 'guest/kubernethes/archive.test.ts';
const LOG = 'lib/attestation/registers/firmware-log.ts';
const ACPI = 'lib/attestation/tdx/acpi.ts';
const ARCHIVE = 'guest/kubernethes/archive.ts';

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
    "the look at every line of the engine's load answer",
    [
      'guest/kubernethes/podman.ts',
      'loaded.map(loadProblem).find((found) => found !== undefined)',
      'loadProblem(loaded.at(-1) ?? {})',
    ],
    ['guest/kubernethes/podman.test.ts', 'looks at every line of the reply'],
  ),
];
