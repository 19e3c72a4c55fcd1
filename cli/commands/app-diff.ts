/** `app diff`: what a rollout would change, before anybody signs it. */
import { join } from 'node:path';
import { bytesEqual, fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { bareHex, ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appId, type Manifest, manifestHash, parseManifest } from '../../lib/protocol/manifest.ts';
import { decodeAppOf, encodeAppOf } from '../../lib/protocol/network-contract.ts';
import { answer } from '../answers.ts';
import { differences } from '../app/describe.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { chainOptions, connectNetwork, contractOption, readGiven } from '../owner/connection.ts';

export const diff: Command = {
  name: 'app diff',
  summary: 'shows what a rollout of this manifest would change',
  positionals: ['NAME', 'MANIFEST'],
  options: {
    ...chainOptions,
    contract: contractOption,
    against: { value: 'FILE', help: 'compare with this manifest, and ask no chain' },
    volume: {
      value: 'DIR',
      help: "a host volume, in which the manifest that the contract names is looked for; the chain's word is its hash only",
    },
    ...narrationOptions,
  },
  async run(args) {
    const [app, file] = args.positionals as [string, string];
    typed(() => appId(app));
    const after = read(app, 'the manifest', file);
    const before = await compared(args, app);
    const changes = differences(before?.manifest, after.manifest);
    narration(args)(...(changes.length === 0 ? ['nothing changes'] : changes));
    answer(args, 'app diff', {
      app,
      before: before?.hash ?? null,
      after: after.hash,
      changes,
    });
  },
};

interface Compared {
  readonly manifest: Manifest;
  readonly hash: string;
}

function read(app: string, what: string, file: string): Compared {
  const bytes = readGiven(what, file);
  return { manifest: manifestOfApp(app, bytes, file), hash: to0x(manifestHash(bytes)) };
}

/** @returns undefined when nothing is in force */
async function compared(args: Arguments, app: string): Promise<Compared | undefined> {
  const against = args.optional('against');
  if (against !== undefined) return read(app, '--against', against);
  const volume = args.optional('volume');
  if (volume === undefined) throw new UsageError('--volume DIR is missing, and so is --against FILE');
  const network = await connectNetwork(args);
  const at = await network.chain.head();
  const { manifestHash: hash } = decodeAppOf(await network.call(encodeAppOf({ app: to0x(appId(app)) }), at));
  narration(args)(
    `in force at block ${at.number}, by ${network.sources}: ${hash === ZERO_WORD ? 'no manifest' : hash}`,
  );
  if (hash === ZERO_WORD) return undefined;
  const file = join(volume, 'manifests', `${bareHex(hash)}.json`);
  const bytes = readGiven('the manifest in force', file);
  if (!bytesEqual(manifestHash(bytes), fromHex(hash, 32))) {
    throw new DstackError('MANIFEST_HASH_MISMATCH', `${file} is not the manifest that the contract names`);
  }
  return { manifest: manifestOfApp(app, bytes, file), hash };
}

/**
 * What a file has, which may be any file.
 * @throws MANIFEST_…; USAGE for the manifest of another app
 */
export function manifestOfApp(app: string, bytes: Uint8Array, file: string): Manifest {
  const manifest = parsed(bytes, file);
  if (manifest.app === app) return manifest;
  throw new UsageError(`${file} is a manifest of ${manifest.app}, not of ${app}`);
}

function parsed(bytes: Uint8Array, file: string): Manifest {
  try {
    return parseManifest(bytes);
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    throw new DstackError(
      error.code,
      `${file} is no manifest as \`npx dstack app pack\` writes one: ${error.message}`,
      { cause: error },
    );
  }
}
