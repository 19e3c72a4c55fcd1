/** `app …`: what an app's author and the network's owner do to get containers into the VMs. */
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { extract } from 'tar-stream';
import { Type } from 'typebox';
import type { Head } from '../../lib/chain/chain-client.ts';
import { dropDrafts, fillDurably, writeDurably } from '../../lib/daemon/durable-file.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { fromHex, sha256, to0x, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ZERO_WORD } from '../../lib/protocol/hex.ts';
import {
  appId,
  formatManifest,
  type Manifest,
  manifestHash,
  parseManifest,
} from '../../lib/protocol/manifest.ts';
import {
  type AppView,
  decodeAppOf,
  encodeAppOf,
  encodeRollback,
  encodeRollout,
  encodeWithdraw,
} from '../../lib/protocol/network-contract.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { type Command, UsageError } from '../command.ts';
import { instant } from '../instant.ts';
import { act, openOwner, ownerOptions } from '../owner/act.ts';
import type { NetworkConnection } from '../owner/connection.ts';
import { fromWhen } from './network-policy.ts';

const pack: Command = {
  name: 'app pack',
  summary: "puts a `docker save` archive and its manifest where VMs find them; prints the manifest's hash",
  positionals: ['NAME', 'ARCHIVE'],
  options: {
    port: { value: 'PORT', help: 'the port on which the container speaks HTTP' },
    env: { value: 'NAME=VALUE', help: 'an environment variable; may be given several times', multiple: true },
    out: { value: 'DIR', help: 'the host volume of the VMs; may be given several times', multiple: true },
  },
  async run(args) {
    const [app, archive] = args.positionals as [string, string];
    const digest = await configDigest(archive);
    const env = Object.fromEntries(args.list('env').map(environmentVariable));
    const manifest: Manifest = {
      version: 1,
      app,
      containers: [
        {
          name: app,
          image: `sha256:${digest}`,
          ...(Object.keys(env).length === 0 ? {} : { env }),
          ...(args.optional('port') === undefined ? {} : { http: { port: Number(args.text('port')) } }),
        },
      ],
    };
    const bytes = formatManifest(manifest);
    const hash = toHex(manifestHash(bytes));
    const volumes = args.list('out');
    if (volumes.length === 0) throw new UsageError('give at least one --out DIR, the host volume of a VM');
    for (const volume of volumes) await place(volume, archive, digest, bytes, hash);
    print(`config   sha256:${digest}`);
    print(`manifest 0x${hash}`);
  },
};

/** Each file appears under its name only when it is whole: a VM may be reading the volume. */
async function place(
  volume: string,
  archive: string,
  digest: string,
  manifest: Uint8Array,
  hash: string,
): Promise<void> {
  const [archives, manifests] = [join(volume, 'archives'), join(volume, 'manifests')];
  for (const folder of [archives, manifests]) {
    await mkdir(folder, { recursive: true });
    dropDrafts(folder);
  }
  await fillDurably(join(archives, `${digest}.tar`), (draft) => copyFile(archive, draft));
  writeDurably(join(manifests, `${hash}.json`), manifest);
}

/** The config digest of the one image in a docker archive: SHA-256 of the config blob itself, whatever it is called. */
async function configDigest(archive: string): Promise<string> {
  const small = await smallEntries(archive);
  const index = small.get('manifest.json');
  if (index === undefined)
    throw new DstackError(
      'ARCHIVE_MALFORMED',
      `${archive} has no manifest.json: make it with \`docker save\``,
    );
  const images = parseJson(
    DockerIndexSchema,
    index.toString('utf8'),
    'ARCHIVE_MALFORMED',
    `manifest.json of ${archive}`,
    SMALL,
  );
  const name = images.length === 1 ? images[0]?.Config : undefined;
  const config = name === undefined ? undefined : small.get(name);
  if (config === undefined)
    throw new DstackError('ARCHIVE_MALFORMED', `${archive} does not hold exactly one image with its config`);
  return toHex(sha256(config));
}

const SMALL = 1024 * 1024;
/** Of all small entries together: a real archive has a few kilobytes of them. */
const SMALL_TOTAL = 64 * SMALL;
const DockerIndexSchema = Type.Array(Type.Object({ Config: Type.String() }));

/** The archive's JSON entries; layers are passed over. */
async function smallEntries(archive: string): Promise<Map<string, Buffer>> {
  const entries = new Map<string, Buffer>();
  const file = createReadStream(archive);
  const tar = extract();
  file.on('error', (error) => tar.destroy(error));
  let total = 0;
  try {
    for await (const entry of file.pipe(tar)) {
      const size = entry.header.size ?? 0;
      if (size > SMALL) {
        entry.resume();
        continue;
      }
      total += size;
      if (total > SMALL_TOTAL) throw new Error(`its small entries are more than ${SMALL_TOTAL} bytes`);
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk as Buffer);
      entries.set(entry.header.name, Buffer.concat(chunks));
    }
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== undefined) throw cause;
    throw new DstackError('ARCHIVE_MALFORMED', `${archive} is no docker archive: ${message}`, { cause });
  } finally {
    file.destroy();
  }
  return entries;
}

function environmentVariable(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new UsageError(`--env takes NAME=VALUE, not ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

const rollout: Command = {
  name: 'app rollout',
  summary: "makes every node run this manifest, after the network's delay",
  positionals: ['NAME', 'MANIFEST'],
  options: ownerOptions,
  async run(args) {
    const [app, manifest] = args.positionals as [string, string];
    const wanted = { app: to0x(appId(app)), manifestHash: await hashOf(app, manifest) };
    const owner = await openOwner(args);
    await requireNew(owner, app, wanted);
    await act(args, owner, {
      data: encodeRollout(wanted),
      effect: [`every node runs this manifest of ${app}, ${await fromWhen(owner)}`],
      async proof(at) {
        const shown = await appOf(owner, wanted.app, at);
        return shown.latest === wanted.manifestHash
          ? { done: [`${app} runs ${shown.latest} from ${instant(shown.from)}`] }
          : { instead: `${shown.latest} as the latest manifest of ${app}` };
      },
    });
  },
};

/**
 * The contract takes a manifest a second time: the one in force would become its own previous one, with nothing left to
 * go back to, and a pending one would wait its delay anew.
 *
 * @throws ALREADY_ROLLED_OUT
 */
async function requireNew(
  owner: NetworkConnection,
  name: string,
  { app, manifestHash }: { app: string; manifestHash: string },
): Promise<void> {
  const shown = await appOf(owner, app, await owner.chain.head());
  const isPending = shown.latest !== shown.manifestHash;
  if (shown.manifestHash === manifestHash) {
    const instead = isPending ? `; to cancel the rollout that is pending: app rollback ${name}` : '';
    throw new DstackError('ALREADY_ROLLED_OUT', `${name} runs ${manifestHash} already${instead}`);
  }
  if (isPending && shown.latest === manifestHash) {
    throw new DstackError(
      'ALREADY_ROLLED_OUT',
      `${manifestHash} of ${name} is pending and takes effect at ${instant(shown.from)}; a repeated rollout would begin its delay anew`,
    );
  }
}

/** 32 bytes of hex as they are; a manifest file is checked first, as the nodes will. */
async function hashOf(app: string, manifest: string): Promise<string> {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(manifest)) return to0x(fromHex(manifest, 32));
  const bytes = await readFile(manifest);
  const parsed = parseManifest(bytes);
  if (parsed.app !== app) throw new UsageError(`${manifest} is a manifest of ${parsed.app}, not of ${app}`);
  return to0x(manifestHash(bytes));
}

const rollback: Command = {
  name: 'app rollback',
  summary: 'goes back to the previous manifest, at once',
  positionals: ['NAME'],
  options: ownerOptions,
  async run(args) {
    const [name] = args.positionals as [string];
    const app = to0x(appId(name));
    const owner = await openOwner(args);
    const before = await appOf(owner, app, await owner.chain.head());
    await act(args, owner, {
      data: encodeRollback({ app }),
      effect: [`${name} goes back from ${manifestText(before.latest)} to what was before it, at once`],
      async proof(at) {
        const shown = await appOf(owner, app, at);
        const isOther = shown.latest !== before.latest || shown.from !== before.from;
        return isOther && shown.latest === shown.manifestHash
          ? { done: [`${name} runs ${manifestText(shown.manifestHash)}`] }
          : { instead: `${manifestText(shown.latest)} as the latest manifest of ${name}` };
      },
    });
  },
};

const withdraw: Command = {
  name: 'app withdraw',
  summary: 'leaves the app without a manifest, at once',
  positionals: ['NAME'],
  options: ownerOptions,
  async run(args) {
    const [name] = args.positionals as [string];
    const app = to0x(appId(name));
    const owner = await openOwner(args);
    await act(args, owner, {
      data: encodeWithdraw({ app }),
      effect: [`no node runs ${name} any more, at once`],
      async proof(at) {
        const { latest, manifestHash } = await appOf(owner, app, at);
        return latest === ZERO_WORD && manifestHash === ZERO_WORD
          ? { done: [`${name} has no manifest`] }
          : { instead: `manifest ${manifestHash} of ${name}` };
      },
    });
  },
};

const manifestText = (hash: string): string => (hash === ZERO_WORD ? 'no manifest' : hash);

async function appOf({ call }: NetworkConnection, app: string, at: Head): Promise<AppView> {
  return decodeAppOf(await call(encodeAppOf({ app }), at));
}

export const appCommands: readonly Command[] = [pack, rollout, rollback, withdraw];
