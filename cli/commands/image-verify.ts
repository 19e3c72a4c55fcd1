/** `image verify`: whether a folder is a release of who one thinks. */
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { type Command, narrationOptions } from '../command.ts';
import { tablesOption } from '../production-measurement.ts';
import { readPublicKey } from '../release/signature.ts';
import { verifyRelease } from '../release/verify.ts';

export const verifyCommand: Command = {
  name: 'image verify',
  summary:
    "checks a release: its signature, every file, and that its measurement and its bill of materials are the files'",
  positionals: ['RELEASE'],
  options: {
    key: {
      value: 'FILE',
      help: 'the public Ed25519 key of who made it, as OpenSSH writes it, got from elsewhere than the release',
      env: 'DSTACK_RELEASE_KEY',
      required: true,
    },
    tables: tablesOption,
    json: { help: 'prints one JSON object' },
    quiet: narrationOptions.quiet,
  },
  async run(args) {
    const [folder] = args.positionals as [string];
    const publicKey = readPublicKey(args.text('key'));
    const tables = args.optional('tables');
    const { measured, packages, files } = await verifyRelease(folder, { publicKey, tables });
    const { release, flavour, measurement, shape } = measured;
    const isCompared = flavour !== 'production' || tables !== undefined;
    if (args.flag('json')) {
      printJson({ release, flavour, shape, measurement, isCompared, packages, files, publicKey });
      return;
    }
    const unknown = 'not said: TDX reports it of a machine, --tables';
    print(
      `release      ${release}, ${flavour}`,
      `signed by    ${publicKey}`,
      `files        ${files}, each with the sum that was signed`,
      `measurement  ${measurement ?? unknown}${isCompared || measurement === null ? '' : ', as it says: not computed without --tables'}`,
      `shape        ${shape.cpus} processors, ${shape.memoryMiB} MiB`,
      `made of      ${packages.debian} Debian and ${packages.npm} npm packages (sbom.cdx.json)`,
      'VERIFIED. Whether the source builds it: npx dstack image reproduce --against RELEASE',
    );
  },
};
